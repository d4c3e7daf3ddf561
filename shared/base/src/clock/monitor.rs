//! Checks whether the wall clock can be relied on.

use std::{
    collections::VecDeque,
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

/// Maximum number of jumps that are remembered.
const MAX_JUMPS: usize = 16;

/// How far a time of another process may be in the future to prove that the clock was set back. One
/// that is further away was made by a clock that was wrong itself.
const MAX_PROOF: Duration = Duration::from_hours(24);

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
    /// The latest jumps, in their order.
    jumps: VecDeque<Jump>,
}

/// A jump of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Jump {
    /// Time that the clock would have shown without the jump.
    from: Timestamp,
    /// Time that it showed instead.
    to: Timestamp,
}

impl WallClockMonitor {
    /// Starts observing, from the current readings of the clocks.
    pub(super) fn begin(&self, now: Timestamp, monotonic: Duration) {
        *self.lock() = State {
            lead: lead(now, monotonic),
            since: monotonic,
            steps: 0,
            has_begun: true,
            jumps: VecDeque::new(),
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
            let by = i64::try_from(by).unwrap_or(i64::MAX);
            let from = Timestamp::from_micros(now.as_micros().saturating_sub(by));
            state.remember(Jump { from, to: now });
            state.lead = lead;
            state.since = monotonic;
            state.steps += 1;
            // Rounded to the nearest second, since a moment passes between the two readings.
            let jump_seconds = by.saturating_add(by.signum() * 500_000) / 1_000_000;
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

    /// Returns by how much the wall clock was set back since it showed this time. If it has shown
    /// the time more than once, the largest of the possible answers counts. Zero if it was not set
    /// back.
    pub(super) fn set_back_since(&self, time: Timestamp) -> Duration {
        let state = self.lock();
        let (mut back, mut largest) = (0_i64, 0);
        for (index, jump) in state.jumps.iter().enumerate().rev() {
            back = back.saturating_add(jump.from.as_micros().saturating_sub(jump.to.as_micros()));
            let begin = index.checked_sub(1).and_then(|before| state.jumps.get(before));
            let is_after_begin = begin.is_none_or(|begin| time >= begin.to.minus(ALLOWANCE));
            if is_after_begin && time <= jump.from.plus(ALLOWANCE) {
                largest = largest.max(back);
            }
        }
        Duration::from_micros(largest.unsigned_abs())
    }

    /// Notes that a clock has shown this time before `now`, perhaps that of another process.
    pub(super) fn note_earlier(&self, time: Timestamp, now: Timestamp) {
        let ahead = time.since(now);
        if ahead > ALLOWANCE && ahead <= MAX_PROOF {
            tracing::warn!(
                difference_seconds = ahead.as_secs(),
                "the newest event in the database is later than this machine's time: its clock was set back, or \
                 another machine's clock is ahead; find out which of them is wrong"
            );
            self.lock().remember(Jump { from: time, to: now });
        }
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

impl State {
    fn remember(&mut self, jump: Jump) {
        if self.jumps.len() == MAX_JUMPS {
            self.jumps.pop_front();
        }
        self.jumps.push_back(jump);
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
    fn a_clock_that_was_set_back_tells_by_how_much_since_a_time() {
        const MINUTE: Duration = Duration::from_mins(1);
        let minutes = |minutes: u64| START.plus(Duration::from_mins(minutes));
        let (clock, hand) = Clock::manual(minutes(0));
        let since = |time| clock.set_back_since(time).as_secs() / 60;
        hand.advance(60 * MINUTE);
        assert_eq!(since(minutes(0)), 0);
        // Back by 50 minutes. The times from 10 to 60 occur twice, and the first time counts.
        hand.set(minutes(10));
        for (time, back) in [(0, 50), (10, 50), (60, 50), (61, 0)] {
            assert_eq!(since(minutes(time)), back, "{time}");
        }
        // Once the time has passed, logins after it are told apart from those before.
        hand.advance(60 * MINUTE);
        assert_eq!((since(minutes(5)), since(minutes(65))), (50, 0));
        // Forward by 100 minutes by mistake, and right again after 10.
        hand.set(minutes(170));
        assert_eq!((since(minutes(5)), since(minutes(65))), (0, 0));
        hand.advance(10 * MINUTE);
        hand.set(minutes(80));
        for (time, back) in [(5, 50), (65, 0), (79, 0), (175, 100)] {
            assert_eq!(since(minutes(time)), back, "{time}");
        }
        // Small corrections are no jump.
        hand.set(clock.now().minus(ALLOWANCE));
        assert_eq!(since(minutes(75)), 0);
    }

    #[test]
    fn a_time_from_before_the_start_proves_that_the_clock_was_set_back() {
        let hour = Duration::from_hours(1);
        for (ahead, back) in [
            (Duration::ZERO, Duration::ZERO),
            (ALLOWANCE, Duration::ZERO),
            (hour, hour),
            (24 * hour, 24 * hour),
            // Another clock was wrong.
            (25 * hour, Duration::ZERO),
        ] {
            let (clock, _hand) = Clock::manual(START);
            clock.note_earlier(START.plus(ahead));
            assert_eq!(clock.set_back_since(START.minus(SECOND)), back, "{ahead:?}");
            assert_eq!(clock.set_back_since(START.plus(26 * hour)), Duration::ZERO);
            assert_eq!(clock.steps(), 0);
        }
    }

    #[test]
    fn a_moment_is_past_only_after_the_allowance() {
        let (clock, hand) = Clock::manual(START);
        hand.settle();
        let settled = clock.steady().expect("settled");
        assert_eq!(settled.past(), START.minus(ALLOWANCE));
    }
}
