//! Looking back at finished games.

use std::collections::HashMap;

use shared::{
    db::Db,
    ids::UserId,
    page::{PageRequest, Position},
};

use super::{Error, GameView};
use crate::{
    ids::{GameId, GameKind},
    store,
};

/// The use cases of the history.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) db: Db,
}

impl History {
    /// A user's finished games, newest first, and the token of the next page.
    pub(crate) async fn list(
        &self,
        user: UserId,
        page: &PageRequest<GameKind>,
    ) -> Result<(Vec<GameView>, String), Error> {
        let conn = &mut self.db.read().await?;
        let mut results = store::results_list(conn, user, page.after, page.limit()).await?;
        let position = |row: &store::ResultRow| Position {
            time: row.finish_time,
            id: row.game_id,
        };
        let next = page.cut(&mut results, &Self::query(user), position);
        let ids: Vec<GameId> = results.iter().map(|row| row.game_id).collect();
        let games = store::games_by_ids(conn, &ids).await?;
        let mut games: HashMap<GameId, store::GameRow> = games.into_iter().map(|row| (row.id, row)).collect();
        let in_order = ids.iter().filter_map(|id| games.remove(id)).collect();
        Ok((GameView::of_rows(conn, in_order).await?, next))
    }

    /// What the page tokens of this user's list are good for.
    pub(crate) fn query(user: UserId) -> String {
        format!("game.v1.HistoryService/ListFinishedGames {user}")
    }
}
