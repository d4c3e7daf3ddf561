//! `game_results`.

use shared::{
    clock::Timestamp,
    db::{self, prelude::*},
    ids::UserId,
    page::Position,
};

use super::schema::game_results;
use crate::ids::{GameId, GameKind};

/// How a finished game went for one of its players.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = game_results)]
pub(crate) struct ResultRow {
    pub(crate) user_id: UserId,
    pub(crate) game_id: GameId,
    pub(crate) result: String,
    pub(crate) opponent_id: Option<UserId>,
    pub(crate) finish_time: Timestamp,
}

pub(crate) async fn results_insert(conn: &mut Conn, row: &ResultRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(game_results::table)
        .values(row)
        .execute(c)
        .await)
    .map(|_| ())
}

/// A user's results, newest first.
pub(crate) async fn results_list(
    conn: &mut Conn,
    user_id: UserId,
    after: Option<Position<GameKind>>,
    limit: i64,
) -> db::Result<Vec<ResultRow>> {
    query!(conn, |c| {
        let mine = game_results::table.filter(game_results::user_id.eq(user_id));
        let mut mine = mine.select(ResultRow::as_select()).into_boxed();
        if let Some(after) = after {
            // The first condition is where the scan of the index begins; the second one breaks ties.
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
