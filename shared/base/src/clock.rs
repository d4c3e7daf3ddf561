//! The one clock. Everything that asks what time it is asks here, so that a test can steer it.
//!
//! Two rules hold everywhere. Times of different processes are never compared without an
//! [`ALLOWANCE`]. Nothing is thrown away because a clock said so once: what cannot be taken back
//! (deleting, ending, forfeiting) takes its time from a [`Settled`], and refuses nothing by it. A
//! refusal by time takes effect at once, because it can be taken back.

mod course;
mod timestamp;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use self::{course::Course, timestamp::micros};
pub use self::{
    course::{ALLOWANCE, SETTLING, Settled},
    timestamp::Timestamp,
};

/// Tells the time: the wall clock's, which an operator or NTP may set, and a monotonic one, which
/// nobody sets. Clones share what was noticed about the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: Source,
    course: Arc<Course>,
}

#[derive(Clone, Debug)]
enum Source {
    /// The machine's clocks. The monotonic one counts from this moment.
    System(Instant),
    Manual {
        hands: Arc<Hands>,
        /// Microseconds by which the wall clock of this process is ahead of the hand's.
        ahead: i64,
    },
}

impl Default for Source {
    fn default() -> Self {
        Self::System(Instant::now())
    }
}

/// The positions of a manual clock's hands, in microseconds.
#[derive(Debug)]
struct Hands {
    start: Timestamp,
    wall: AtomicI64,
    monotonic: AtomicI64,
    /// How far the clock of a database server is ahead of the wall clock.
    server_lead: AtomicI64,
    is_settled: AtomicBool,
    moved: watch::Sender<()>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still at `start` until it is steered.
    ///
    /// ```
    /// use std::time::Duration;
    /// use base::clock::{Clock, Timestamp};
    ///
    /// let (clock, hand) = Clock::manual(Timestamp::from_micros(0));
    /// hand.advance(Duration::from_secs(30));
    /// assert_eq!(clock.now().as_seconds(), 30);
    /// ```
    pub fn manual(start: Timestamp) -> (Self, ClockHand) {
        let hand = ClockHand(Arc::new(Hands {
            start,
            wall: AtomicI64::new(start.as_micros()),
            monotonic: AtomicI64::new(0),
            server_lead: AtomicI64::new(0),
            is_settled: AtomicBool::new(false),
            moved: watch::Sender::new(()),
        }));
        (hand.clock(), hand)
    }

    /// The present moment, by the wall clock.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
            Source::System(_) => {
                // A machine set to before 1970 gets 1970: every token is then from the future and
                // refused.
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_micros(micros(elapsed))
            }
            Source::Manual { hands, ahead } => {
                Timestamp::from_micros(hands.wall.load(Ordering::SeqCst).saturating_add(*ahead))
            }
        }
    }

    /// The time by a clock that is never wrong. Only manual clocks have one, for tests in place of
    /// the database's.
    pub fn true_time(&self) -> Option<Timestamp> {
        match &self.source {
            Source::System(_) => None,
            Source::Manual { hands, .. } => Some(hands.start.plus(self.monotonic())),
        }
    }

    /// Time since some moment before the first call, by the monotonic clock. Differences between
    /// two readings are right whatever happens to the wall clock.
    pub fn monotonic(&self) -> Duration {
        match &self.source {
            Source::System(start) => start.elapsed(),
            Source::Manual { hands, .. } => duration(hands.monotonic.load(Ordering::SeqCst)),
        }
    }

    /// Waits this long, by the monotonic clock. A manual clock has to be advanced.
    pub async fn sleep(&self, time: Duration) {
        match &self.source {
            Source::System(_) => tokio::time::sleep(time).await,
            Source::Manual { hands, .. } => {
                let until = self.monotonic() + time;
                let is_over = |(): &()| duration(hands.monotonic.load(Ordering::SeqCst)) >= until;
                // An error would mean that the sender is gone, and `self` holds it.
                let _ = hands.moved.subscribe().wait_for(is_over).await;
            }
        }
    }

    /// The present moment if the wall clock can be relied on for what cannot be taken back, as far
    /// as this process can tell by itself: it has run for [`SETTLING`], and as long has passed
    /// since the wall clock last jumped by more than [`ALLOWANCE`]. On PostgreSQL the server has a
    /// say as well, so callers ask the `settled` of its connection.
    pub fn steady(&self) -> Option<Settled> {
        let is_settled_by_hand = match &self.source {
            Source::System(_) => false,
            Source::Manual { hands, .. } => hands.is_settled.load(Ordering::SeqCst),
        };
        let (now, is_steady) = self.course.read(|| (self.now(), self.monotonic()), is_settled_by_hand);
        is_steady.then(|| Settled::new(now))
    }

    /// How often the wall clock was seen to jump. Looks, and warns of a new jump.
    pub fn steps(&self) -> u64 {
        self.course.read(|| (self.now(), self.monotonic()), false);
        self.course.steps()
    }

    /// Time of a simulated database server. Only tests set it.
    pub fn steered_server_time(&self) -> Option<Timestamp> {
        match &self.source {
            Source::System(_) => None,
            Source::Manual { hands, .. } => {
                let lead = hands.server_lead.load(Ordering::SeqCst);
                Some(Timestamp::from_micros(self.now().as_micros().saturating_add(lead)))
            }
        }
    }

    /// Notes by how many microseconds the database server's clock is ahead of the wall clock, if
    /// they disagree. Warns when that changes.
    pub fn note_server_time(&self, disagreement: Option<i64>) {
        self.course.compare(disagreement);
    }

    fn with_source(source: Source) -> Self {
        let clock = Self {
            source,
            course: Arc::default(),
        };
        clock.course.begin(clock.now(), clock.monotonic());
        clock
    }
}

/// Steers manual [`Clock`]s.
#[derive(Clone, Debug)]
pub struct ClockHand(Arc<Hands>);

impl ClockHand {
    /// Another clock that it steers: that of another process, which starts now.
    pub fn clock(&self) -> Clock {
        self.clock_ahead(0)
    }

    /// The same with a wall clock that is always this many seconds ahead of the hand's, or behind.
    pub fn clock_ahead(&self, seconds: i64) -> Clock {
        Clock::with_source(Source::Manual {
            hands: Arc::clone(&self.0),
            ahead: seconds.saturating_mul(1_000_000),
        })
    }

    /// Lets this much time pass.
    pub fn advance(&self, time: Duration) {
        self.0.wall.fetch_add(micros(time), Ordering::SeqCst);
        self.0.monotonic.fetch_add(micros(time), Ordering::SeqCst);
        self.0.moved.send_replace(());
    }

    /// Sets the wall clock, also back, as an operator or a wrong time server does. No time passes.
    pub fn set(&self, to: Timestamp) {
        self.0.wall.store(to.as_micros(), Ordering::SeqCst);
    }

    /// Lets every clock that it steers count as settled until its next jump, as if it had run right
    /// for long. For tests of what happens in time, and not of the waiting.
    pub fn settle(&self) {
        self.0.is_settled.store(true, Ordering::SeqCst);
    }

    /// The present moment, as a check that finds the clock settled gives it. For tests of what
    /// takes one.
    pub fn settled(&self) -> Settled {
        Settled::new(Timestamp::from_micros(self.0.wall.load(Ordering::SeqCst)))
    }

    /// Lets database servers be this many seconds ahead of the wall clock, or behind.
    pub fn set_server_lead(&self, seconds: i64) {
        self.0
            .server_lead
            .store(seconds.saturating_mul(1_000_000), Ordering::SeqCst);
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let (clock, hand) = Clock::manual(Timestamp::from_micros(5));
        assert_eq!(clock.now(), clock.now());
        hand.advance(Duration::from_micros(7));
        assert_eq!(clock.now(), Timestamp::from_micros(12));
        hand.set(Timestamp::from_micros(1));
        assert_eq!(clock.now(), Timestamp::from_micros(1));
    }

    #[test]
    fn a_clock_that_is_ahead_stays_so_and_true_time_does_not_jump() {
        let (clock, hand) = Clock::manual(Timestamp::from_micros(60_000_000));
        let behind = hand.clock_ahead(-5);
        hand.set(Timestamp::from_micros(10_000_000));
        assert_eq!(clock.true_time(), Some(Timestamp::from_micros(60_000_000)));
        hand.advance(Duration::from_secs(1));
        assert_eq!((clock.now().as_seconds(), behind.now().as_seconds()), (11, 6));
        assert_eq!(behind.true_time(), clock.true_time());
    }

    #[test]
    fn time_since_the_future_is_zero() {
        let (earlier, later) = (Timestamp::from_micros(1), Timestamp::from_micros(4));
        assert_eq!(later.since(earlier), Duration::from_micros(3));
        assert_eq!(earlier.since(later), Duration::ZERO);
    }

    #[test]
    fn a_moment_before_1970_has_positive_nanos() {
        let proto = prost_types::Timestamp::from(Timestamp::from_micros(-1));
        assert_eq!((proto.seconds, proto.nanos), (-1, 999_999_000));
    }
}
