//! Queries of `recompute-leaderboard`.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::{
    ResultRow, StatsRow,
    schema::{game_results, games, player_stats, players},
};
use crate::ids::GameId;

/// Returns the numbers of games and of players.
pub(crate) async fn counts(conn: &mut Conn) -> db::Result<(i64, i64)> {
    let games = query!(conn, |c| games::table.count().get_result(c).await)?;
    let players = query!(conn, |c| players::table.count().get_result(c).await)?;
    Ok((games, players))
}

/// Returns up to `limit` ids of games after this one, in order.
pub(crate) async fn game_ids_after(conn: &mut Conn, after: Option<GameId>, limit: i64) -> db::Result<Vec<GameId>> {
    query!(conn, |c| {
        let mut ids = games::table
            .select(games::id)
            .order(games::id)
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            ids = ids.filter(games::id.gt(after));
        }
        ids.load(c).await
    })
}

/// Returns all history rows of these games, by game and user id.
pub(crate) async fn results_by_games(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<ResultRow>> {
    query!(conn, |c| game_results::table
        .filter(game_results::game_id.eq_any(ids))
        .order((game_results::game_id, game_results::user_id))
        .select(ResultRow::as_select())
        .load(c)
        .await)
}

pub(crate) async fn result_delete(conn: &mut Conn, row: &ResultRow) -> db::Result<()> {
    let row = game_results::table.find((row.user_id, row.game_id));
    query!(conn, |c| diesel::delete(row).execute(c).await).map(|_| ())
}

/// Returns up to `limit` ids of players after this one, in order.
pub(crate) async fn player_ids_after(conn: &mut Conn, after: Option<UserId>, limit: i64) -> db::Result<Vec<UserId>> {
    query!(conn, |c| {
        let mut ids = players::table
            .select(players::id)
            .order(players::id)
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            ids = ids.filter(players::id.gt(after));
        }
        ids.load(c).await
    })
}

/// Returns each result that these users had and that counts, how often, and when last.
pub(crate) async fn results_summed(
    conn: &mut Conn,
    ids: &[UserId],
) -> db::Result<Vec<(UserId, String, i64, Option<Timestamp>)>> {
    use diesel::dsl::{count_star, max};
    query!(conn, |c| game_results::table
        .filter(game_results::user_id.eq_any(ids))
        .filter(game_results::counts.is_null().or(game_results::counts.eq(true)))
        .group_by((game_results::user_id, game_results::result))
        .select((
            game_results::user_id,
            game_results::result,
            count_star(),
            max(game_results::finish_time)
        ))
        .load(c)
        .await)
}

pub(crate) async fn stats_by_ids(conn: &mut Conn, ids: &[UserId]) -> db::Result<Vec<StatsRow>> {
    query!(conn, |c| player_stats::table
        .filter(player_stats::user_id.eq_any(ids))
        .select(StatsRow::as_select())
        .load(c)
        .await)
}

/// Reads a player's stats and locks them until the transaction ends. Creates them with zeros if
/// there are none.
pub(crate) async fn stats_lock(conn: &mut Conn, user_id: UserId) -> db::Result<StatsRow> {
    let none = StatsRow {
        user_id,
        wins: 0,
        losses: 0,
        draws: 0,
        last_finish_time: Timestamp::from_micros(0),
    };
    query!(conn, |c| diesel::insert_into(player_stats::table)
        .values(&none)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    lock_row!(conn, player_stats::table.find(user_id).select(StatsRow::as_select()))?.ok_or(db::Error::NotFound)
}

pub(crate) async fn stats_replace(conn: &mut Conn, row: &StatsRow) -> db::Result<()> {
    let update = diesel::update(player_stats::table.find(row.user_id)).set(row);
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn stats_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let row = player_stats::table.find(user_id);
    query!(conn, |c| diesel::delete(row).execute(c).await).map(|_| ())
}
