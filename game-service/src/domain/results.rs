//! What the end of a game does to its players: a row of history each, and their stats, in the
//! transaction of the last move.
//!
//! Locks are taken in one order everywhere, so that games that end at once wait for each other and
//! never in a circle: the game, then the players' stats by user id.

use base::{clock::Timestamp, ids::UserId};
use db::Conn;

use super::{Error, Game, State};
use crate::{
    rules::Mark,
    store::{self, ResultRow, StatsRow},
};

/// How a game went for one player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GameResult {
    Won,
    Lost,
    Drawn,
}

/// Counts a finished game for each of its players. The computer has no stats. A second time would
/// violate the primary key of the history, and so undo the transaction.
pub(super) async fn count(tx: &mut Conn, game: &Game) -> Result<(), Error> {
    for row in results(game)? {
        store::results_insert(tx, &row).await?;
        store::stats_add(tx, &stats_of(&row)?).await?;
    }
    Ok(())
}

/// What one row of history alone adds up to.
pub(super) fn stats_of(row: &ResultRow) -> Result<StatsRow, Error> {
    let result = GameResult::parse(&row.result);
    let result = result.ok_or_else(|| Error::Internal(format!("{} is no result", row.result)))?;
    Ok(result.stats(row.user_id, row.finish_time))
}

/// Adds the stats of so many games like one to a sum.
pub(super) fn add_games(sum: &mut StatsRow, one: &StatsRow, games: i64) {
    sum.wins += one.wins * games;
    sum.losses += one.losses * games;
    sum.draws += one.draws * games;
    sum.last_finish_time = sum.last_finish_time.max(one.last_finish_time);
}

/// The rows of history that a game makes, by user id: none where it is not over or counts for
/// nobody.
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

    /// The stats of somebody who has finished nothing but one game.
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
