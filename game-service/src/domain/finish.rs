//! What the end of a game does to its players: a row of history each, their stats, and how many stand where, in the transaction of the
//! last move.
//!
//! Locks are taken in one order everywhere, so that games that end at once wait for each other and never in a circle: the game, the
//! players' stats by user id, the groups by games played and wins, the bands.

use std::collections::BTreeMap;

use shared::{clock::Timestamp, db::Conn, ids::UserId};

use super::{Error, Game, State};
use crate::{
    rules::Mark,
    store::{self, BandRow, GroupRow, ResultRow, StatsRow},
};

/// How a game went for one player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GameResult {
    Won,
    Lost,
    Drawn,
}

/// By how much the number of players who have finished this many games and won this many of them changes. The two say everything that a
/// group has in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(BTreeMap<(i64, i64), i64>);

/// Counts a finished game for each of its players. The computer has no stats. A second time would violate the primary key of the
/// history, and so undo the transaction.
pub(super) async fn count(tx: &mut Conn, game: &Game) -> Result<(), Error> {
    let mut groups = Groups::default();
    for row in results(game)? {
        store::results_insert(tx, &row).await?;
        add_stats(tx, &stats_of(&row)?, &mut groups).await?;
    }
    groups.write(tx).await
}

/// Adds these stats to what the player has, and notes from which group they go to which.
pub(super) async fn add_stats(tx: &mut Conn, more: &StatsRow, groups: &mut Groups) -> Result<(), Error> {
    let sum = store::stats_add(tx, more).await?;
    groups.leave(sum.games_played - more.games_played, sum.wins - more.wins);
    groups.join(sum.games_played, sum.wins);
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
    sum.games_played += one.games_played * games;
    sum.win_ratio = win_ratio(sum.wins, sum.losses, sum.draws);
    sum.last_finish_time = sum.last_finish_time.max(one.last_finish_time);
}

/// The rows of history that a game makes, by user id: none where it is not over or counts for nobody.
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
            games_played: 1,
            win_ratio: win_ratio(wins, losses, draws),
            last_finish_time: finish_time,
        }
    }
}

impl Groups {
    /// One player more. Who has finished nothing is in no group.
    pub(super) fn join(&mut self, games_played: i64, wins: i64) {
        self.add(games_played, wins, 1);
    }

    /// One player less.
    pub(super) fn leave(&mut self, games_played: i64, wins: i64) {
        self.add(games_played, wins, -1);
    }

    fn add(&mut self, games_played: i64, wins: i64, players: i64) {
        if games_played > 0 {
            *self.0.entry((games_played, wins)).or_default() += players;
        }
    }

    /// Changes the groups, and the bands that they are in.
    pub(super) async fn write(self, tx: &mut Conn) -> Result<(), Error> {
        let mut bands: BTreeMap<i32, i64> = BTreeMap::new();
        let mut is_whole = true;
        for ((games_played, wins), players) in self.0 {
            let row = group(games_played, wins, players.abs());
            *bands.entry(row.band).or_default() += players;
            if players > 0 {
                store::group_add(tx, &row).await?;
            } else if players < 0 {
                is_whole &= store::group_take(tx, &row).await?;
            }
        }
        for (band, change) in bands {
            let players = change.abs();
            if change > 0 {
                store::band_add(tx, BandRow { band, players }).await?;
            } else if change < 0 {
                is_whole &= store::band_take(tx, BandRow { band, players }).await?;
            }
        }
        if !is_whole {
            // A game must come to its end all the same.
            tracing::error!("fewer players are noted than have left: run recompute-leaderboard");
        }
        Ok(())
    }
}

/// So many players who have finished this many games and won this many of them.
pub(super) fn group(games_played: i64, wins: i64, players: i64) -> GroupRow {
    GroupRow {
        band: store::band(wins, games_played - wins),
        win_ratio: win_ratio(wins, games_played - wins, 0),
        wins,
        games_played,
        players,
    }
}

/// `wins / max(1, losses + draws)`.
///
/// As a double this orders players exactly: the quotient is rounded correctly, so equal ratios are equal, and two different ratios of
/// counts below 2^26 differ by more than one unit in the last of the 53 bits.
#[expect(clippy::cast_precision_loss, reason = "nobody plays 2^53 games")]
fn win_ratio(wins: i64, losses: i64, draws: i64) -> f64 {
    wins as f64 / (losses + draws).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_as_defined() {
        for (wins, losses, draws, expected) in [(0, 0, 0, 0.0), (3, 0, 0, 3.0), (3, 1, 0, 3.0), (1, 2, 2, 0.25)] {
            assert!((win_ratio(wins, losses, draws) - expected).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn close_ratios_are_told_apart_and_equal_ones_are_equal() {
        let big = (1 << 26) - 1;
        assert!(
            win_ratio(big, big - 1, 0) > win_ratio(big - 1, big - 2, 0)
                || win_ratio(big, big - 1, 0) < win_ratio(big - 1, big - 2, 0)
        );
        assert_eq!(
            win_ratio(1, 3, 0).to_bits(),
            win_ratio(big / 3, 0, big / 3 * 3).to_bits()
        );
    }
}
