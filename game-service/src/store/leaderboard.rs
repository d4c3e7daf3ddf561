//! `player_stats`.

use shared::{
    clock::Timestamp,
    db::{self, prelude::*},
    ids::UserId,
};

use super::schema::{player_stats, players};

/// What a player's results add up to.
#[derive(Clone, Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = player_stats)]
pub(crate) struct StatsRow {
    pub(crate) user_id: UserId,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) games_played: i64,
    pub(crate) win_ratio: f64,
    pub(crate) last_finish_time: Timestamp,
}

/// A player in the order of the leaderboard.
#[derive(Clone, Debug, Queryable)]
pub(crate) struct RankedRow {
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) win_ratio: f64,
}

/// Reads the player's stats and locks them until the transaction ends; makes them, all zero, where there are none.
pub(crate) async fn stats_lock(conn: &mut Conn, user_id: UserId, now: Timestamp) -> db::Result<StatsRow> {
    let none = StatsRow {
        user_id,
        wins: 0,
        losses: 0,
        draws: 0,
        games_played: 0,
        win_ratio: 0.0,
        last_finish_time: now,
    };
    query!(conn, |c| {
        diesel::insert_into(player_stats::table)
            .values(&none)
            .on_conflict_do_nothing()
            .execute(c)
            .await
    })?;
    lock_row!(conn, player_stats::table.find(user_id).select(StatsRow::as_select()))?.ok_or(db::Error::NotFound)
}

pub(crate) async fn stats_update(conn: &mut Conn, row: &StatsRow) -> db::Result<()> {
    let update = diesel::update(player_stats::table.find(row.user_id)).set(row);
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

/// The best players who have finished enough games.
pub(crate) async fn leaderboard_top(conn: &mut Conn, min_games: i64, limit: i64) -> db::Result<Vec<RankedRow>> {
    query!(conn, |c| {
        player_stats::table
            .inner_join(players::table)
            .filter(player_stats::games_played.ge(min_games))
            .order((
                player_stats::win_ratio.desc(),
                player_stats::wins.desc(),
                player_stats::last_finish_time,
                player_stats::user_id,
            ))
            .limit(limit)
            .select((
                player_stats::user_id,
                players::login,
                player_stats::wins,
                player_stats::losses,
                player_stats::draws,
                player_stats::win_ratio,
            ))
            .load(c)
            .await
    })
}
