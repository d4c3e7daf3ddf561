//! The table `older_results`: games whose results a replica of the previous version has written. It
//! counts every game, even those of guests.

use db::prelude::*;

use super::schema::{game_results, games, older_results};
use crate::ids::GameId;

/// Returns at most `limit` games whose results have not been checked.
pub(crate) async fn older_results_list(conn: &mut Conn, limit: i64) -> db::Result<Vec<GameId>> {
    query!(conn, |c| older_results::table
        .select(older_results::game_id)
        .limit(limit)
        .load(c)
        .await)
}

/// Returns those of these games whose results have not been checked.
pub(crate) async fn older_results_among(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<GameId>> {
    query!(conn, |c| older_results::table
        .filter(older_results::game_id.eq_any(ids))
        .select(older_results::game_id)
        .load(c)
        .await)
}

/// Stores whether the results of a locked game count, and marks them as checked.
pub(crate) async fn older_results_settle(conn: &mut Conn, id: GameId, counts: bool) -> db::Result<()> {
    let game = diesel::update(games::table.find(id)).set(games::is_ranked.eq(counts));
    query!(conn, |c| game.execute(c).await)?;
    let results = game_results::table.filter(game_results::game_id.eq(id));
    let results = diesel::update(results).set(game_results::counts.eq(counts));
    query!(conn, |c| results.execute(c).await)?;
    query!(conn, |c| diesel::delete(older_results::table.find(id)).execute(c).await).map(|_| ())
}
