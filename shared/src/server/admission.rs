//! A place for a bounded number of calls. One more is refused at once, which costs next to nothing, instead of
//! queueing until every caller has given up.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::Code;

use crate::{error::ErrorReply, proto::authz::v1::ErrorReason};

/// Bounds of what whoever is refused is told to wait, on average.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often it is looked at how many came back.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets a bounded number of calls in.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    wait: Arc<Mutex<Wait>>,
}

/// How long to wait for a place. As long as it takes for those who wait to come back a few at a time: to refuse somebody costs next to nothing, but
/// to refuse very many leaves nothing for those who have a place.
#[derive(Debug)]
struct Wait {
    average: Duration,
    /// Since when, and how many.
    since: Instant,
    refused: u32,
    /// How many may be refused in an interval.
    target: u32,
}

impl Admission {
    pub(super) fn new(places: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(
                usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            wait: Arc::new(Mutex::new(Wait {
                average: WAIT_MIN,
                since: Instant::now(),
                refused: 0,
                target: places.div_ceil(2),
            })),
        }
    }

    /// A place, kept until it is dropped; or the refusal.
    ///
    /// Health checks need none: a busy server is not a dead one, and restarting it would make things worse.
    pub(super) fn admit(&self, path: &str) -> Result<Option<OwnedSemaphorePermit>, ErrorReply> {
        if path.starts_with("/grpc.health.v1.Health/") {
            return Ok(None);
        }
        Arc::clone(&self.places).try_acquire_owned().map(Some).map_err(|_| {
            let wait = self.wait.lock().unwrap_or_else(PoisonError::into_inner).refuse();
            ErrorReply::new(
                Code::ResourceExhausted,
                ErrorReason::Overloaded,
                "the server is busy; try again in a moment",
            )
            // By lot, so that who was refused together does not come back together.
            .with_retry_after(wait.mul_f64(0.5 + rand::random::<f64>()))
        })
    }
}

impl Wait {
    /// One is refused. Gives how long they wait on average.
    fn refuse(&mut self) -> Duration {
        let elapsed = self.since.elapsed();
        if elapsed >= INTERVAL {
            let share = f64::from(self.refused) / f64::from(self.target) / elapsed.div_duration_f64(INTERVAL);
            self.average = self.average.mul_f64(share).clamp(WAIT_MIN, WAIT_MAX);
            self.since = Instant::now();
            self.refused = 0;
        }
        self.refused = self.refused.saturating_add(1);
        self.average
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(admission: &Admission) -> Duration {
        admission.wait.lock().expect("nobody panics").average
    }

    /// So many wait, and come back when they are told to. How many are refused in each second in the end.
    async fn refused_in_the_end(waiting: f64) -> f64 {
        let admission = Admission::new(100);
        let mut refused = 0.0;
        for _ in 0..10 {
            let due = waiting / wait(&admission).div_duration_f64(INTERVAL);
            refused = 0.0;
            while refused < due {
                admission.wait.lock().expect("nobody panics").refuse();
                refused += 1.0;
            }
            tokio::time::advance(INTERVAL).await;
        }
        refused
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_wait_come_back_a_few_at_a_time() {
        // As many as may be refused are not told to wait longer.
        assert!((49.0..=51.0).contains(&refused_in_the_end(50.0).await));
        assert!((25.0..=75.0).contains(&refused_in_the_end(1000.0).await));
        // Nobody waits for longer than the most.
        assert!((990.0..=1010.0).contains(&refused_in_the_end(30_000.0).await));
    }

    #[tokio::test(start_paused = true)]
    async fn when_it_is_over_the_wait_is_short_again() {
        let admission = Admission::new(1);
        let _place = admission.admit("/a/B").expect("a place");
        for _ in 0..1000 {
            admission.admit("/a/B").expect_err("no place");
        }
        tokio::time::advance(INTERVAL).await;
        admission.admit("/a/B").expect_err("no place");
        assert_eq!(wait(&admission), WAIT_MAX);
        tokio::time::advance(WAIT_MAX * 2).await;
        admission.admit("/a/B").expect_err("no place");
        assert_eq!(wait(&admission), WAIT_MIN);
    }
}
