//! The table `player_stats`: totals of each player's results.

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{prelude::*, prepared};

use super::schema::player_stats;

/// Totals of a player's results.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = player_stats, treat_none_as_default_value = false)]
pub(crate) struct StatsRow {
    pub(crate) user_id: UserId,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) last_finish_time: Timestamp,
}

/// Adds `row` to the player's statistics, and creates them for a new player. The row stays locked
/// until the transaction ends.
pub(crate) async fn stats_add(conn: &mut Conn, row: &StatsRow) -> db::Result<()> {
    let last = prepared::<sql_types::Timestamp>(
        "CASE WHEN player_stats.last_finish_time > excluded.last_finish_time \
         THEN player_stats.last_finish_time ELSE excluded.last_finish_time END",
    );
    query!(conn, |c| {
        diesel::insert_into(player_stats::table)
            .values(row)
            .on_conflict(player_stats::user_id)
            .do_update()
            .set((
                player_stats::wins.eq(player_stats::wins + excluded(player_stats::wins)),
                player_stats::losses.eq(player_stats::losses + excluded(player_stats::losses)),
                player_stats::draws.eq(player_stats::draws + excluded(player_stats::draws)),
                player_stats::last_finish_time.eq(last),
            ))
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}
