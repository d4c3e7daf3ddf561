//! The one time that all processes on a database agree on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use base::clock::{Clock, Timestamp};
use parking_lot::Mutex;

use super::{Backend, Db, Result};

/// How often the server is asked for its time.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// An estimate older than this is not used while another call refreshes it.
const STALE: Duration = Duration::from_secs(5);
/// A smaller step back of the server's clock is taken for a delay of its answer.
const STEP: Duration = Duration::from_secs(1);

/// Tells the database's time: the clock of the PostgreSQL server, which every replica shares, or on
/// SQLite, which one process serves, the wall clock as it was when the process started plus the
/// time since then.
///
/// Steps of this machine's clock do not change it while the process runs.
#[derive(Debug)]
pub struct DatabaseTime {
    db: Db,
    clock: Clock,
    estimate: Mutex<Estimate>,
    /// The server's clock was set back since somebody asked.
    went_back: AtomicBool,
}

/// The difference between the database's time and [`Clock::monotonic`].
#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// Microseconds.
    offset: i64,
    /// Moment of the last answer; `None` before the first one.
    refreshed: Option<Duration>,
}

impl DatabaseTime {
    /// Creates the clock of this database. PostgreSQL is asked by the first
    /// [`refresh`](Self::refresh).
    pub fn new(db: Db, clock: Clock) -> Self {
        let offset = clock.now().as_micros().saturating_sub(micros(clock.monotonic()));
        Self {
            db,
            clock,
            estimate: Mutex::new(Estimate {
                offset,
                refreshed: None,
            }),
            went_back: AtomicBool::new(false),
        }
    }

    /// Asks the server for its time if the last answer is more than a second old.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn refresh(&self) -> Result<()> {
        if self.clock.true_time().is_some() || self.db.backend() == Backend::Sqlite {
            return Ok(());
        }
        if !self.estimate().claim_refresh(self.clock.monotonic()) {
            return Ok(());
        }
        let mut conn = self.db.read().await?;
        let sent = self.clock.monotonic();
        let server = conn.server_time().await?;
        let received = self.clock.monotonic();
        let mut estimate = self.estimate();
        let went_back = estimate.learn(sent, received, server);
        drop(estimate);
        if went_back > STEP {
            tracing::warn!(
                seconds = went_back.as_secs(),
                "the clock of the database server was set back"
            );
            self.went_back.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The present time by the last answer.
    pub fn now(&self) -> Timestamp {
        if let Some(time) = self.clock.true_time() {
            return time;
        }
        let offset = self.estimate().offset;
        Timestamp::from_micros(micros(self.clock.monotonic()).saturating_add(offset))
    }

    /// Says once after each step back of the server's clock that there may be rows from the future.
    pub fn take_went_back(&self) -> bool {
        self.went_back.swap(false, Ordering::SeqCst)
    }

    /// Has [`take_went_back`](Self::take_went_back) say so again, where the caller could not see to
    /// it.
    pub fn put_went_back(&self) {
        self.went_back.store(true, Ordering::SeqCst);
    }

    fn estimate(&self) -> parking_lot::MutexGuard<'_, Estimate> {
        self.estimate.lock()
    }
}

impl Estimate {
    /// Whether this caller is to ask the server. Others go by the last answer meanwhile, if it is
    /// not too old.
    fn claim_refresh(&mut self, now: Duration) -> bool {
        let Some(refreshed) = self.refreshed else {
            return true;
        };
        let age = now.saturating_sub(refreshed);
        if age > SAMPLE_EVERY && age <= STALE {
            // If this caller is cancelled, another one asks in a second.
            self.refreshed = Some(now);
        }
        age > SAMPLE_EVERY
    }

    /// Takes the server's time, which it told between the moments `sent` and `received`. An
    /// estimate that agrees with it stays as it is, so that it does not tremble with the delays of
    /// answers. Returns how far the time went back.
    fn learn(&mut self, sent: Duration, received: Duration, server: Timestamp) -> Duration {
        let least = server.as_micros().saturating_sub(micros(received));
        let most = server.as_micros().saturating_sub(micros(sent));
        let first = self.refreshed.is_none();
        let before = self.offset;
        self.offset = if first {
            least.midpoint(most)
        } else {
            before.clamp(least, most)
        };
        self.refreshed = Some(received);
        let went_back = if first { 0 } else { before.saturating_sub(self.offset) };
        Duration::from_micros(u64::try_from(went_back).unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn server(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn an_estimate_moves_only_as_far_as_an_answer_proves_it_wrong() {
        let mut estimate = Estimate {
            offset: 0,
            refreshed: None,
        };
        assert_eq!(estimate.learn(ms(10), ms(20), server(1_015)), Duration::ZERO);
        assert_eq!(estimate.offset, 1_000_000);
        // A slow answer that agrees changes nothing.
        estimate.learn(ms(100), ms(900), server(1_850));
        assert_eq!(estimate.offset, 1_000_000);
        // The server's clock is 5 ms slower than thought: not a step.
        assert_eq!(estimate.learn(ms(1000), ms(1001), server(1_995)), ms(5));
        assert_eq!(estimate.offset, 995_000);
        assert_eq!(estimate.learn(ms(2000), ms(2001), server(-3_598_000)), ms(3_600_995));
        // Forward again.
        assert_eq!(estimate.learn(ms(3000), ms(3000), server(9_000)), Duration::ZERO);
        assert_eq!(estimate.offset, 6_000_000);
    }

    #[test]
    fn an_answer_is_used_for_a_second_and_asked_for_by_one_caller() {
        let mut estimate = Estimate {
            offset: 0,
            refreshed: None,
        };
        assert!(estimate.claim_refresh(ms(0)));
        assert!(estimate.claim_refresh(ms(0)), "there is no answer yet");
        estimate.learn(ms(0), ms(0), server(0));
        assert!(!estimate.claim_refresh(ms(1000)));
        assert!(estimate.claim_refresh(ms(1001)));
        assert!(!estimate.claim_refresh(ms(1001)), "another caller asks");
        assert!(estimate.claim_refresh(ms(8000)));
        assert!(estimate.claim_refresh(ms(8000)), "too old to go by");
    }
}
