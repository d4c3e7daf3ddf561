//! The history: a user's finished games.

use std::{collections::HashMap, fmt::Write as _};

use base::{
    clock::Timestamp,
    ids::UserId,
    page::{PageRequest, Position},
};
use db::Db;

use super::{End, Error, GameResult, GameView, Opponent};
use crate::{
    ids::{GameId, GameKind},
    store::{self, ResultFilter},
};

/// The use cases of the history.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) db: Db,
}

/// Query for the finished games of a user. Filters that are `None` do not apply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryQuery {
    pub(crate) user: UserId,
    pub(crate) result: Option<GameResult>,
    pub(crate) opponent: Option<Opponent>,
    pub(crate) opponent_id: Option<UserId>,
    pub(crate) end: Option<End>,
    /// Lower bound of the finish time, inclusive.
    pub(crate) from: Option<Timestamp>,
    /// Upper bound of the finish time, exclusive.
    pub(crate) before: Option<Timestamp>,
}

/// Totals of a user's games against one opponent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadToHead {
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) last_finish_time: Option<Timestamp>,
}

impl HistoryQuery {
    /// Returns the name of the query, to which its page tokens are bound.
    pub(crate) fn name(&self) -> String {
        let mut name = format!("game.v1.HistoryService/ListFinishedGames {}", self.user);
        let filters = (
            self.result,
            self.opponent,
            self.opponent_id,
            self.end,
            self.from,
            self.before,
        );
        // Writing to a string does not fail.
        let _ = write!(name, " {filters:?}");
        name
    }
}

impl History {
    /// Returns finished games, newest first, and the token of the next page.
    pub(crate) async fn list(
        &self,
        query: &HistoryQuery,
        page: &PageRequest<GameKind>,
    ) -> Result<(Vec<GameView>, String), Error> {
        let filter = ResultFilter {
            result: query.result.map(GameResult::as_str),
            is_against_computer: query.opponent.map(|opponent| opponent == Opponent::Computer),
            opponent_id: query.opponent_id,
            end_reason: query.end.map(End::as_str),
            from: query.from,
            before: query.before,
        };
        let conn = &mut self.db.read().await?;
        let mut results = store::results_list(conn, query.user, filter, page.after, page.limit()).await?;
        let position = |row: &store::ResultRow| Position {
            time: row.finish_time,
            id: row.game_id,
        };
        let next = page.cut(&mut results, &query.name(), position);
        let ids: Vec<GameId> = results.iter().map(|row| row.game_id).collect();
        let games = store::games_by_ids(conn, &ids).await?;
        let mut games: HashMap<GameId, store::GameRow> = games.into_iter().map(|row| (row.id, row)).collect();
        let in_order = ids.iter().filter_map(|id| games.remove(id)).collect();
        Ok((GameView::of_rows(conn, in_order).await?, next))
    }

    /// Adds up the results of a user's games against one opponent.
    pub(crate) async fn head_to_head(&self, user: UserId, opponent: UserId) -> Result<HeadToHead, Error> {
        let conn = &mut self.db.read().await?;
        let mut sum = HeadToHead::default();
        for (result, games, last) in store::results_against(conn, user, opponent).await? {
            match GameResult::parse(&result) {
                Some(GameResult::Won) => sum.wins = games,
                Some(GameResult::Lost) => sum.losses = games,
                Some(GameResult::Drawn) => sum.draws = games,
                None => return Err(Error::Internal(format!("unknown result {result}"))),
            }
            sum.last_finish_time = sum.last_finish_time.max(last);
        }
        Ok(sum)
    }

    /// Checks that game-service knows this user. Fails with [`Error::UserNotFound`] otherwise.
    pub(crate) async fn ensure_known(&self, user: UserId) -> Result<(), Error> {
        let known = store::players_by_ids(&mut self.db.read().await?, &[user]).await?;
        if known.is_empty() {
            return Err(Error::UserNotFound(user));
        }
        Ok(())
    }
}
