//! The only source of time. All code reads the time here, so that tests can control it.
//!
//! Two rules hold everywhere:
//!
//! - Times of different processes are never compared without an [`ALLOWANCE`].
//! - Irreversible actions (deleting, ending, forfeiting) never rely on a single reading of the
//!   clock. They take their time from a [`Settled`], which is never used to refuse anything.
//!   Refusals by time, in contrast, take effect at once, because they can be undone.

mod monitor;
mod timestamp;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use self::{monitor::WallClockMonitor, timestamp::micros};
pub use self::{
    monitor::{ALLOWANCE, SETTLING, Settled},
    timestamp::Timestamp,
};

/// A clock with two readings: wall-clock time, which an operator or NTP may change, and monotonic
/// time, which nothing can change. Clones share what was observed about the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: Source,
    monitor: Arc<WallClockMonitor>,
}

#[derive(Clone, Debug)]
enum Source {
    /// The machine's clocks. Monotonic time counts from this moment.
    System(Instant),
    Manual {
        hands: Arc<Hands>,
        /// Microseconds by which this process's wall clock is ahead of the shared one; negative if
        /// it is behind.
        ahead: i64,
    },
}

impl Default for Source {
    fn default() -> Self {
        Self::System(Instant::now())
    }
}

impl From<Timestamp> for SystemTime {
    /// Returns 1970-01-01T00:00:00Z for a moment before it.
    fn from(timestamp: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_micros(u64::try_from(timestamp.as_micros()).unwrap_or(0))
    }
}

/// The state of a manual clock. Times are in microseconds.
#[derive(Debug)]
struct Hands {
    start: Timestamp,
    wall: AtomicI64,
    monotonic: AtomicI64,
    /// How far a database server's clock is ahead of the wall clock, in microseconds.
    server_lead: AtomicI64,
    is_settled: AtomicBool,
    moved: watch::Sender<()>,
}

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// Creates a clock that stands still at `start` until the returned hand moves it.
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

    /// Returns the current wall-clock time.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
            Source::System(_) => {
                // A machine whose clock is set before 1970 gets 1970. Every token then lies in the
                // future and is refused.
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_micros(micros(elapsed))
            }
            Source::Manual { hands, ahead } => {
                Timestamp::from_micros(hands.wall.load(Ordering::SeqCst).saturating_add(*ahead))
            }
        }
    }

    /// Returns the time of a clock that is never wrong. Only manual clocks have one: in tests, it
    /// replaces the time of the database.
    pub fn true_time(&self) -> Option<Timestamp> {
        match &self.source {
            Source::System(_) => None,
            Source::Manual { hands, .. } => Some(hands.start.plus(self.monotonic())),
        }
    }

    /// Returns the monotonic time since an arbitrary moment before the first call. The difference
    /// between two readings is correct whatever happens to the wall clock.
    pub fn monotonic(&self) -> Duration {
        match &self.source {
            Source::System(start) => start.elapsed(),
            Source::Manual { hands, .. } => duration(hands.monotonic.load(Ordering::SeqCst)),
        }
    }

    /// Waits this long by monotonic time. A manual clock has to be advanced meanwhile.
    pub async fn sleep(&self, time: Duration) {
        match &self.source {
            Source::System(_) => tokio::time::sleep(time).await,
            Source::Manual { hands, .. } => {
                let until = self.monotonic() + time;
                let is_over = |(): &()| duration(hands.monotonic.load(Ordering::SeqCst)) >= until;
                // Never fails: `self` keeps the sender alive.
                let _ = hands.moved.subscribe().wait_for(is_over).await;
            }
        }
    }

    /// Returns the current time if the wall clock is reliable enough for irreversible actions, as
    /// far as this process can tell by itself. For at least [`SETTLING`], the process must have
    /// been running and the wall clock must not have jumped by more than [`ALLOWANCE`]. On
    /// PostgreSQL, the server's clock counts as well, so callers use the `settled` of its
    /// connection instead.
    pub fn steady(&self) -> Option<Settled> {
        let is_settled_by_hand = match &self.source {
            Source::System(_) => false,
            Source::Manual { hands, .. } => hands.is_settled.load(Ordering::SeqCst),
        };
        let (now, is_steady) = self.monitor.read(|| (self.now(), self.monotonic()), is_settled_by_hand);
        is_steady.then(|| Settled::new(now))
    }

    /// Checks the wall clock for a new jump, and warns of one. Returns the number of jumps seen so
    /// far.
    pub fn steps(&self) -> u64 {
        self.monitor.read(|| (self.now(), self.monotonic()), false);
        self.monitor.steps()
    }

    /// Returns the time of a simulated database server. Only tests set one.
    pub fn steered_server_time(&self) -> Option<Timestamp> {
        match &self.source {
            Source::System(_) => None,
            Source::Manual { hands, .. } => {
                let lead = hands.server_lead.load(Ordering::SeqCst);
                Some(Timestamp::from_micros(self.now().as_micros().saturating_add(lead)))
            }
        }
    }

    /// Records by how many microseconds the database server's clock is ahead of the wall clock, or
    /// `None` if they agree. Warns when they begin to disagree.
    pub fn note_server_time(&self, disagreement: Option<i64>) {
        self.monitor.compare(disagreement);
    }

    fn with_source(source: Source) -> Self {
        let clock = Self {
            source,
            monitor: Arc::default(),
        };
        clock.monitor.begin(clock.now(), clock.monotonic());
        clock
    }
}

/// Controls manual [`Clock`]s.
#[derive(Clone, Debug)]
pub struct ClockHand(Arc<Hands>);

impl ClockHand {
    /// Creates another clock that this hand controls, as if a second process started now.
    pub fn clock(&self) -> Clock {
        self.clock_ahead(0)
    }

    /// Creates another clock whose wall clock is always this many seconds ahead of the hand's, or
    /// behind it if negative.
    pub fn clock_ahead(&self, seconds: i64) -> Clock {
        Clock::with_source(Source::Manual {
            hands: Arc::clone(&self.0),
            ahead: seconds.saturating_mul(1_000_000),
        })
    }

    /// Advances both the wall clock and monotonic time.
    pub fn advance(&self, time: Duration) {
        self.0.wall.fetch_add(micros(time), Ordering::SeqCst);
        self.0.monotonic.fetch_add(micros(time), Ordering::SeqCst);
        self.0.moved.send_replace(());
    }

    /// Sets the wall clock forward or back, as an operator or a wrong time server does. No
    /// monotonic time passes.
    pub fn set(&self, to: Timestamp) {
        self.0.wall.store(to.as_micros(), Ordering::SeqCst);
    }

    /// Makes every controlled clock count as settled until its next jump, as if it had run
    /// correctly for a long time. Meant for tests that are not about the settling itself.
    pub fn settle(&self) {
        self.0.is_settled.store(true, Ordering::SeqCst);
    }

    /// Returns the current time as a [`Settled`], as if a check had found the clock settled. Meant
    /// for tests of functions that require one.
    pub fn settled(&self) -> Settled {
        Settled::new(Timestamp::from_micros(self.0.wall.load(Ordering::SeqCst)))
    }

    /// Sets how many seconds the clocks of database servers are ahead of the wall clock; negative
    /// means behind.
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
    fn setting_the_clock_changes_neither_its_lead_nor_true_time() {
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
