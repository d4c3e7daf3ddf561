//! The common time of all processes that use a database.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use base::clock::{Clock, Timestamp};
use parking_lot::Mutex;

use super::{Backend, Db, Result};

/// Interval at which the server is asked for its time.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Age above which an estimate is stale: callers then ask the server themselves, even if another
/// call is already refreshing the estimate.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// Smaller backward steps of the server's clock are attributed to delayed answers.
const MIN_STEP: Duration = Duration::from_secs(1);

/// Clock of the database. On PostgreSQL, it is the server's clock, which all replicas share. On
/// SQLite, which one process serves, it is the wall clock at the start of the process plus the time
/// elapsed since then.
///
/// Steps of this machine's clock do not affect it while the process runs.
#[derive(Debug)]
pub struct DatabaseTime {
    db: Db,
    clock: Clock,
    estimate: Mutex<Estimate>,
    /// Whether the server's clock was set back since [`DatabaseTime::take_went_back`] was last
    /// called.
    went_back: AtomicBool,
}

/// The difference between the database's time and [`Clock::monotonic`].
#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// Difference in microseconds.
    offset: i64,
    /// Monotonic time of the last answer; `None` before the first answer.
    answered: Option<Duration>,
    /// Monotonic time of the last attempt to get an answer.
    asked: Duration,
}

impl DatabaseTime {
    /// Creates the clock of this database. The first [`refresh`](Self::refresh) asks PostgreSQL.
    pub fn new(db: Db, clock: Clock) -> Self {
        let offset = clock.now().as_micros().saturating_sub(micros(clock.monotonic()));
        Self {
            db,
            clock,
            estimate: Mutex::new(Estimate {
                offset,
                answered: None,
                asked: Duration::ZERO,
            }),
            went_back: AtomicBool::new(false),
        }
    }

    /// Asks the server for its time if the last answer is more than a second old.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be reached.
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
        if went_back > MIN_STEP {
            tracing::warn!(
                set_back_seconds = went_back.as_secs(),
                "the clock of the database server was set back"
            );
            self.went_back.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Returns the current time, according to the last answer.
    pub fn now(&self) -> Timestamp {
        if let Some(time) = self.clock.true_time() {
            return time;
        }
        let offset = self.estimate().offset;
        Timestamp::from_micros(micros(self.clock.monotonic()).saturating_add(offset))
    }

    /// Returns true once after each backward step of the server's clock, since rows may then have
    /// times in the future.
    pub fn take_went_back(&self) -> bool {
        self.went_back.swap(false, Ordering::SeqCst)
    }

    /// Makes [`take_went_back`](Self::take_went_back) return true once more, for a caller that
    /// could not handle the step.
    pub fn put_went_back(&self) {
        self.went_back.store(true, Ordering::SeqCst);
    }

    fn estimate(&self) -> parking_lot::MutexGuard<'_, Estimate> {
        self.estimate.lock()
    }
}

impl Estimate {
    /// Returns whether this caller must ask the server. Other callers meanwhile use the last
    /// answer, unless it is stale.
    fn claim_refresh(&mut self, now: Duration) -> bool {
        let Some(answered) = self.answered else {
            return true;
        };
        let age = now.saturating_sub(answered);
        if age > STALE_AFTER {
            return true;
        }
        // If this caller fails or is cancelled, another one asks a second later.
        let is_due = age > SAMPLE_EVERY && now.saturating_sub(self.asked) > SAMPLE_EVERY;
        if is_due {
            self.asked = now;
        }
        is_due
    }

    /// Processes the server's time, which was read between the moments `sent` and `received`. An
    /// estimate that agrees with it is kept, so that it does not jitter with the delay of answers.
    /// Returns how far the time went back.
    fn learn(&mut self, sent: Duration, received: Duration, server: Timestamp) -> Duration {
        let least = server.as_micros().saturating_sub(micros(received));
        let most = server.as_micros().saturating_sub(micros(sent));
        let first = self.answered.is_none();
        let before = self.offset;
        self.offset = if first {
            least.midpoint(most)
        } else {
            before.clamp(least, most)
        };
        self.answered = Some(received);
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

    const fn unknown() -> Estimate {
        Estimate {
            offset: 0,
            answered: None,
            asked: Duration::ZERO,
        }
    }

    #[test]
    fn an_estimate_moves_only_as_far_as_an_answer_proves_it_wrong() {
        let mut estimate = unknown();
        assert_eq!(estimate.learn(ms(10), ms(20), server(1_015)), Duration::ZERO);
        assert_eq!(estimate.offset, 1_000_000);
        // A slow answer that agrees changes nothing.
        estimate.learn(ms(100), ms(900), server(1_850));
        assert_eq!(estimate.offset, 1_000_000);
        // The server's clock is 5 ms behind the estimate, which is not a step.
        assert_eq!(estimate.learn(ms(1000), ms(1001), server(1_995)), ms(5));
        assert_eq!(estimate.offset, 995_000);
        assert_eq!(estimate.learn(ms(2000), ms(2001), server(-3_598_000)), ms(3_600_995));
        // The clock goes forward again.
        assert_eq!(estimate.learn(ms(3000), ms(3000), server(9_000)), Duration::ZERO);
        assert_eq!(estimate.offset, 6_000_000);
    }

    #[test]
    fn an_answer_is_used_for_a_second_and_asked_for_by_one_caller() {
        let mut estimate = unknown();
        assert!(estimate.claim_refresh(ms(0)));
        assert!(estimate.claim_refresh(ms(0)), "there is no answer yet");
        estimate.learn(ms(0), ms(0), server(0));
        assert!(!estimate.claim_refresh(ms(1000)));
        assert!(estimate.claim_refresh(ms(1001)));
        assert!(!estimate.claim_refresh(ms(1001)), "another caller asks");
        assert!(estimate.claim_refresh(ms(8000)));
        assert!(estimate.claim_refresh(ms(8000)), "too old to go by");
    }

    #[test]
    fn failed_attempts_do_not_refresh_an_estimate() {
        let mut estimate = unknown();
        estimate.learn(ms(0), ms(0), server(0));
        for now in [1001, 2002, 3003] {
            assert!(estimate.claim_refresh(ms(now)), "{now}");
            assert!(!estimate.claim_refresh(ms(now + 1000)), "{now}");
        }
        for _ in 0..2 {
            assert!(estimate.claim_refresh(ms(5001)), "too old to go by");
        }
        // The next answer makes it new again.
        estimate.learn(ms(5001), ms(5002), server(5001));
        assert!(!estimate.claim_refresh(ms(6002)));
        assert!(estimate.claim_refresh(ms(6003)));
        assert!(!estimate.claim_refresh(ms(6003)), "another caller asks");
    }
}
