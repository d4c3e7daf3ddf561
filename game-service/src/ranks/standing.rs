//! The results of a player.

use base::clock::Timestamp;

/// Results of a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Games won.
    pub wins: u32,
    /// Games lost.
    pub losses: u32,
    /// Games drawn.
    pub draws: u32,
    /// Time at which the last of these games ended.
    pub last_finish_time: Timestamp,
}

impl Standing {
    /// Returns the number of finished games.
    pub fn games(&self) -> i64 {
        [self.wins, self.losses, self.draws].into_iter().map(i64::from).sum()
    }

    /// Returns `wins / max(1, losses + draws)`.
    pub fn win_ratio(&self) -> f64 {
        win_ratio(self.wins, self.losses, self.draws)
    }
}

/// Returns `wins / max(1, losses + draws)`.
///
/// An `f64` orders players exactly. The quotient is correctly rounded, so equal ratios are equal.
/// Two different ratios of counts below 2^26 differ by more than one unit in the last of the 53
/// bits.
#[expect(clippy::cast_precision_loss, reason = "the sum of two counts is below 2^53")]
pub(super) fn win_ratio(wins: u32, losses: u32, draws: u32) -> f64 {
    let others = u64::from(losses) + u64::from(draws);
    f64::from(wins) / others.max(1) as f64
}
