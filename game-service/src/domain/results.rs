//! The effect of a finished game on its players: a history row for each, and their stats. Both are
//! written in the transaction that ends the game.
//!
//! Locks are always taken in the same order: first the game, then the players' stats by user id.
//! Games that end at the same time therefore wait for each other and never deadlock.

use base::{clock::Timestamp, ids::UserId};
use db::Conn;

use super::{Error, Game, State};
use crate::{
    rules::Mark,
    store::{self, ResultRow, StatsRow},
};

/// Result of a game for one player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GameResult {
    Won,
    Lost,
    Drawn,
}

/// Writes the history of a finished game for each of its players, but not for the computer, and
/// adds it to their stats if the game is ranked.
/// Counting a game twice violates the primary key of the history and rolls back the transaction.
pub(super) async fn count(tx: &mut Conn, game: &Game) -> Result<(), Error> {
    for row in results(game)? {
        store::results_insert(tx, &row).await?;
        if let Some(stats) = stats_of(&row)? {
            store::stats_add(tx, &stats).await?;
        }
    }
    Ok(())
}

/// Returns the stats of one history row alone, or `None` if the row does not count.
pub(super) fn stats_of(row: &ResultRow) -> Result<Option<StatsRow>, Error> {
    let result = GameResult::parse(&row.result);
    let result = result.ok_or_else(|| Error::Internal(format!("unknown result {}", row.result)))?;
    let counts = row.counts != Some(false);
    Ok(counts.then(|| result.stats(row.user_id, row.finish_time)))
}

/// Adds the stats of `games` games like `one` to a sum.
pub(super) fn add_games(sum: &mut StatsRow, one: &StatsRow, games: i64) {
    sum.wins += one.wins * games;
    sum.losses += one.losses * games;
    sum.draws += one.draws * games;
    sum.last_finish_time = sum.last_finish_time.max(one.last_finish_time);
}

/// Returns the history rows of a game, sorted by user id. There are none if the game is not over or
/// was cancelled.
pub(super) fn results(game: &Game) -> Result<Vec<ResultRow>, Error> {
    let result = |mark: Mark| match game.state {
        State::Won(winner) if winner == mark => Some(GameResult::Won),
        State::Won(_) => Some(GameResult::Lost),
        State::Draw => Some(GameResult::Drawn),
        State::Waiting | State::Turn(_) | State::Cancelled => None,
    };
    let mut rows = Vec::new();
    for mark in [Mark::X, Mark::O] {
        let (Some(user_id), Some(result)) = (game.player(mark), result(mark)) else {
            continue;
        };
        let (Some(finish_time), Some(end)) = (game.finish_time, game.end) else {
            return Err(Error::Internal(format!(
                "game {} is over and does not say when or why",
                game.id
            )));
        };
        rows.push(ResultRow {
            user_id,
            game_id: game.id,
            result: result.as_str().to_owned(),
            opponent_id: game.player(mark.other()),
            finish_time,
            end_reason: end.as_str().to_owned(),
            counts: Some(game.is_ranked),
        });
    }
    rows.sort_unstable_by_key(|row| row.user_id);
    Ok(rows)
}

impl GameResult {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Drawn => "drawn",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Won, Self::Lost, Self::Drawn]
            .into_iter()
            .find(|result| result.as_str() == text)
    }

    /// Returns the stats of a player whose only game had this result.
    pub(super) fn stats(self, user_id: UserId, finish_time: Timestamp) -> StatsRow {
        let is = |result| i64::from(self == result);
        let [wins, losses, draws] = [Self::Won, Self::Lost, Self::Drawn].map(is);
        StatsRow {
            user_id,
            wins,
            losses,
            draws,
            last_finish_time: finish_time,
        }
    }
}
