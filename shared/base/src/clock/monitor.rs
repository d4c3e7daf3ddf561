//! Checks whether the wall clock can be relied on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use super::Timestamp;

/// Maximum difference between the correct clocks of two machines.
pub const ALLOWANCE: Duration = Duration::from_secs(30);

/// How long the wall clock must run steadily before irreversible actions rely on it. This leaves
/// NTP time to correct the clock, or a person time to see the warning.
pub const SETTLING: Duration = Duration::from_mins(15);

/// A time on which irreversible actions may rely. Only a check that the wall clock is right creates
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled(Timestamp);

impl Settled {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self(now)
    }

    /// Returns the current time.
    pub const fn now(self) -> Timestamp {
        self.0
    }

    /// Returns the latest moment that is past by every correct clock. Anything that another process
    /// wrote to expire by then has expired.
    pub fn past(self) -> Timestamp {
        self.0.minus(ALLOWANCE)
    }
}

/// Observed course of the wall clock compared with the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct WallClockMonitor {
    state: Mutex<State>,
    /// Whether the database server's clock disagreed when it was last checked.
    is_disputed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Lead of the wall clock over the monotonic one when the wall clock was last set, in
    /// microseconds.
    lead: i128,
    /// Monotonic time since which the wall clock has run steadily.
    since: Duration,
    steps: u64,
    has_begun: bool,
}

impl WallClockMonitor {
    /// Starts observing, from the current readings of the clocks.
    pub(super) fn begin(&self, now: Timestamp, monotonic: Duration) {
        *self.lock() = State {
            lead: lead(now, monotonic),
            since: monotonic,
            steps: 0,
            has_begun: true,
        };
    }

    /// Reads the clocks and checks for a jump. Returns the wall-clock time, and whether the wall
    /// clock has run steadily for [`SETTLING`].
    ///
    /// `is_settled_by_hand` makes the clock count as steady until its first jump.
    pub(super) fn read(
        &self,
        clocks: impl FnOnce() -> (Timestamp, Duration),
        is_settled_by_hand: bool,
    ) -> (Timestamp, bool) {
        let mut state = self.lock();
        let (now, monotonic) = clocks();
        let lead = lead(now, monotonic);
        if !state.has_begun {
            state.lead = lead;
            state.has_begun = true;
        }
        let by = lead - state.lead;
        // The reference does not move with small steps, so that many of them add up to a jump.
        if by.unsigned_abs() > ALLOWANCE.as_micros() {
            state.lead = lead;
            state.since = monotonic;
            state.steps += 1;
            // Rounded to the nearest second, since a moment passes between the two readings.
            let jump_seconds = i64::try_from((by + by.signum() * 500_000) / 1_000_000).unwrap_or(i64::MAX);
            let settling_seconds = SETTLING.as_secs();
            if by > 0 {
                tracing::warn!(
                    jump_seconds,
                    settling_seconds,
                    "this machine's clock was set forward: tokens expire by the new time at once, but nothing is \
                     deleted, \
                     ended or forfeited until the clock has been steady for a while; find out what sets the clock"
                );
            } else {
                tracing::warn!(
                    jump_seconds,
                    settling_seconds,
                    "this machine's clock was set back: access tokens from before are refused as TOKEN_NOT_YET_VALID \
                     until their time comes, and nothing is deleted, ended or forfeited by time for a while; find out \
                     what sets the clock"
                );
            }
        }
        let is_steady = monotonic.saturating_sub(state.since) >= SETTLING || (is_settled_by_hand && state.steps == 0);
        (now, is_steady)
    }

    pub(super) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Records how far the database server's clock is ahead of the wall clock in microseconds, or
    /// `None` if they agree. Warns when they begin to disagree.
    pub(crate) fn compare(&self, disagreement: Option<i64>) {
        let was_disputed = self.is_disputed.swap(disagreement.is_some(), Ordering::Relaxed);
        match disagreement {
            Some(micros) if !was_disputed => tracing::warn!(
                difference_seconds = micros / 1_000_000,
                "the clocks of this machine and of the database server differ: until they agree, nothing is deleted, \
                 ended or forfeited by time; find out which of them is wrong"
            ),
            None if was_disputed => tracing::info!("the database server's clock agrees with this machine's again"),
            _ => {}
        }
    }

    // A panic cannot leave the state half updated, so nothing has to be repaired.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn lead(now: Timestamp, monotonic: Duration) -> i128 {
    i128::from(now.as_micros()) - i128::try_from(monotonic.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const START: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    /// One second less than [`SETTLING`].
    const ALMOST: Duration = Duration::from_secs(15 * 60 - 1);

    #[test]
    fn the_clock_is_unsettled_for_15_minutes_after_the_start() {
        let (clock, hand) = Clock::manual(START);
        hand.advance(ALMOST);
        assert_eq!(clock.steady(), None);
        hand.advance(SECOND);
        assert_eq!(clock.steady().map(Settled::now), Some(START.plus(SETTLING)));
        // Another process that starts now has to wait just as long.
        let other = hand.clock();
        assert_eq!(other.steady(), None);
        hand.advance(SETTLING);
        assert!(other.steady().is_some());
    }

    #[test]
    fn a_jump_in_either_direction_unsettles_the_clock() {
        for seconds in [31, -31, 7200, -7200, 31_536_000, -31_536_000] {
            let (clock, hand) = Clock::manual(START);
            hand.advance(SETTLING);
            let before = clock.now();
            assert!(clock.steady().is_some());
            hand.set(Timestamp::from_micros(before.as_micros() + seconds * 1_000_000));
            assert_eq!(clock.steady(), None, "{seconds} s");
            // Setting the clock right again after a minute is a second jump.
            hand.advance(Duration::from_mins(1));
            hand.set(before.plus(Duration::from_mins(1)));
            assert_eq!(clock.steady(), None, "{seconds} s");
            hand.advance(ALMOST);
            assert_eq!(clock.steady(), None, "{seconds} s");
            hand.advance(SECOND);
            assert!(clock.steady().is_some(), "{seconds} s");
            assert_eq!(clock.steps(), 2, "{seconds} s");
        }
    }

    #[test]
    fn corrections_within_the_allowance_are_no_jump_but_add_up() {
        let (clock, hand) = Clock::manual(START);
        hand.advance(SETTLING);
        for is_steady in [true, true, true, false] {
            hand.set(clock.now().plus(10 * SECOND));
            assert_eq!(clock.steady().is_some(), is_steady);
        }
        assert_eq!(clock.steps(), 1);
    }

    #[test]
    fn a_clock_settled_by_hand_is_unsettled_by_a_jump() {
        let (clock, hand) = Clock::manual(START);
        hand.settle();
        assert!(clock.steady().is_some() && hand.clock().steady().is_some());
        hand.set(START.plus(SETTLING));
        assert_eq!(clock.steady(), None);
        hand.advance(SETTLING);
        assert!(clock.steady().is_some());
    }

    #[test]
    fn a_moment_is_past_only_after_the_allowance() {
        let (clock, hand) = Clock::manual(START);
        hand.settle();
        let settled = clock.steady().expect("settled");
        assert_eq!(settled.past(), START.minus(ALLOWANCE));
    }
}
