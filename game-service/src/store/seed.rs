//! Bulk inserts. For a few rows, one statement per row is faster, since it is prepared only once.

use base::ids::UserId;
use db::{insert_rows, prelude::*};

use super::{
    GameRow, ResultRow, StatsRow,
    schema::{game_results, games, player_stats, players},
};

/// Row of a new player.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = players, treat_none_as_default_value = false)]
pub(crate) struct PlayerRow {
    pub(crate) id: UserId,
    pub(crate) login: String,
}

pub(crate) async fn players_insert(conn: &mut Conn, rows: &[PlayerRow]) -> db::Result<()> {
    insert_rows!(conn, players::table, rows)
}

pub(crate) async fn games_insert(conn: &mut Conn, rows: &[GameRow]) -> db::Result<()> {
    insert_rows!(conn, games::table, rows)
}

pub(crate) async fn many_results_insert(conn: &mut Conn, rows: &[ResultRow]) -> db::Result<()> {
    insert_rows!(conn, game_results::table, rows)
}

pub(crate) async fn stats_insert(conn: &mut Conn, rows: &[StatsRow]) -> db::Result<()> {
    insert_rows!(conn, player_stats::table, rows)
}
