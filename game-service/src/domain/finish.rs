//! What the end of a game does to its players: a row of history each, and their stats, in the transaction of the last move.

use shared::{clock::Timestamp, db::Conn, ids::UserId};

use super::{Error, Game, State};
use crate::{
    rules::Mark,
    store::{self, ResultRow, StatsRow},
};

/// How a game went for one player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GameResult {
    Won,
    Lost,
    Drawn,
}

/// Counts a finished game for each of its players. The computer has no stats. A second time would violate the primary key of the
/// history, and so undo the transaction.
pub(super) async fn count(tx: &mut Conn, game: &Game, now: Timestamp) -> Result<(), Error> {
    let result = |mark: Mark| match game.state {
        State::Won(winner) if winner == mark => Some(GameResult::Won),
        State::Won(_) => Some(GameResult::Lost),
        State::Draw => Some(GameResult::Drawn),
        State::Waiting | State::Turn(_) | State::Cancelled => None,
    };
    let mut results: Vec<(UserId, GameResult, Option<UserId>)> = [Mark::X, Mark::O]
        .into_iter()
        .filter_map(|mark| Some((game.player(mark)?, result(mark)?, game.player(mark.other()))))
        .collect();
    // In one order everywhere, so that two games that end at once cannot wait for each other.
    results.sort_unstable_by_key(|(user, ..)| *user);
    for (user_id, result, opponent_id) in results {
        let row = ResultRow {
            user_id,
            game_id: game.id,
            result: result.as_str().to_owned(),
            opponent_id,
            finish_time: now,
        };
        store::results_insert(tx, &row).await?;
        let mut stats = store::stats_lock(tx, user_id, now).await?;
        add(&mut stats, result, now);
        store::stats_update(tx, &stats).await?;
    }
    Ok(())
}

impl GameResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Drawn => "drawn",
        }
    }
}

fn add(stats: &mut StatsRow, result: GameResult, now: Timestamp) {
    match result {
        GameResult::Won => stats.wins += 1,
        GameResult::Lost => stats.losses += 1,
        GameResult::Drawn => stats.draws += 1,
    }
    stats.games_played += 1;
    stats.win_ratio = win_ratio(stats.wins, stats.losses, stats.draws);
    stats.last_finish_time = stats.last_finish_time.max(now);
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
