//! The table `game_results`.

use base::{clock::Timestamp, ids::UserId, page::Position};
use db::prelude::*;

use super::schema::game_results;
use crate::ids::{GameId, GameKind};

/// Result of a finished game for one of its players.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = game_results, treat_none_as_default_value = false)]
pub(crate) struct ResultRow {
    pub(crate) user_id: UserId,
    pub(crate) game_id: GameId,
    pub(crate) result: String,
    pub(crate) opponent_id: Option<UserId>,
    pub(crate) finish_time: Timestamp,
    pub(crate) end_reason: String,
    /// Whether the result counts in the stats. `None` if a replica of the previous version wrote
    /// it, which counts every game.
    pub(crate) counts: Option<bool>,
}

/// Filter for the results of a user. Fields that are `None` do not apply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResultFilter<'a> {
    pub(crate) result: Option<&'a str>,
    /// Whether the opponent is the computer.
    pub(crate) is_against_computer: Option<bool>,
    pub(crate) opponent_id: Option<UserId>,
    pub(crate) end_reason: Option<&'a str>,
    /// Lower bound of the finish time, inclusive.
    pub(crate) from: Option<Timestamp>,
    /// Upper bound of the finish time, exclusive.
    pub(crate) before: Option<Timestamp>,
}

pub(crate) async fn results_insert(conn: &mut Conn, row: &ResultRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(game_results::table)
        .values(row)
        .execute(c)
        .await)
    .map(|_| ())
}

/// Returns a user's results, newest first.
pub(crate) async fn results_list(
    conn: &mut Conn,
    user_id: UserId,
    filter: ResultFilter<'_>,
    after: Option<Position<GameKind>>,
    limit: i64,
) -> db::Result<Vec<ResultRow>> {
    query!(conn, |c| {
        let mine = game_results::table.filter(game_results::user_id.eq(user_id));
        let mut mine = mine.select(ResultRow::as_select()).into_boxed();
        if let Some(result) = filter.result {
            mine = mine.filter(game_results::result.eq(result));
        }
        if let Some(opponent) = filter.opponent_id {
            mine = mine.filter(game_results::opponent_id.eq(opponent));
        }
        mine = match filter.is_against_computer {
            Some(true) => mine.filter(game_results::opponent_id.is_null()),
            Some(false) => mine.filter(game_results::opponent_id.is_not_null()),
            None => mine,
        };
        if let Some(reason) = filter.end_reason {
            mine = mine.filter(game_results::end_reason.eq(reason));
        }
        if let Some(from) = filter.from {
            mine = mine.filter(game_results::finish_time.ge(from));
        }
        if let Some(before) = filter.before {
            mine = mine.filter(game_results::finish_time.lt(before));
        }
        if let Some(after) = after {
            // The first condition sets the start of the index scan. The second one breaks ties.
            let tie = game_results::finish_time
                .lt(after.time)
                .or(game_results::game_id.lt(after.id));
            mine = mine.filter(game_results::finish_time.le(after.time)).filter(tie);
        }
        mine.order((game_results::finish_time.desc(), game_results::game_id.desc()))
            .limit(limit)
            .load(c)
            .await
    })
}

/// Returns each result that a user had against an opponent, how often, and when last.
pub(crate) async fn results_against(
    conn: &mut Conn,
    user_id: UserId,
    opponent_id: UserId,
) -> db::Result<Vec<(String, i64, Option<Timestamp>)>> {
    use diesel::dsl::{count_star, max};
    query!(conn, |c| game_results::table
        .filter(game_results::user_id.eq(user_id))
        .filter(game_results::opponent_id.eq(opponent_id))
        .group_by(game_results::result)
        .select((game_results::result, count_star(), max(game_results::finish_time)))
        .load(c)
        .await)
}
