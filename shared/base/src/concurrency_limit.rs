//! Limits on concurrent work that takes a while. A caller for which no place is free is refused at
//! once, which costs next to nothing, instead of queueing until it gives up.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::error::spread;

/// Shortest and longest back-off suggested to refused callers, on average.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Interval at which the back-off is adapted to the number of refusals.
const INTERVAL: Duration = Duration::from_secs(1);

/// Limit on concurrent work. Clones share its places.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    refusals: Refusals,
}

/// Back-off for refused callers, chosen so that they return a few at a time. Clones share it.
#[derive(Clone, Debug)]
pub struct Refusals(Arc<Mutex<Wait>>);

/// State of the back-off. It grows until refused callers return a few at a time: one refusal costs
/// next to nothing, but a flood of them would starve the callers that have a place.
#[derive(Debug)]
struct Wait {
    average: Duration,
    /// Start of the current interval, in which `refused` counts the refusals.
    since: Instant,
    refused: u32,
    /// Refusals per interval above which the back-off grows.
    target: u32,
}

impl ConcurrencyLimit {
    /// Creates a limit of this many places. The back-off is chosen so that, if callers comply, at
    /// most about `refusals` refusals per second remain.
    pub fn new(places: u32, refusals: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(
                usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            refusals: Refusals::new(refusals),
        }
    }

    /// Takes a place, which becomes free again when the permit is dropped.
    ///
    /// # Errors
    ///
    /// If all places are taken, returns how long to wait before asking again: 0.5 to 1.5 times the
    /// average back-off, at random, so that callers refused together do not return together.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, Duration> {
        Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| self.refusals.refuse())
    }

    /// Returns how many places are free.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }
}

impl Refusals {
    /// Creates a back-off that aims at no more than `target` refusals per second.
    pub fn new(target: u32) -> Self {
        Self(Arc::new(Mutex::new(Wait {
            average: WAIT_MIN,
            since: Instant::now(),
            refused: 0,
            target: target.max(1),
        })))
    }

    /// Counts a refusal. Returns how long to wait before asking again: 0.5 to 1.5 times the average
    /// back-off, at random, so that callers refused together do not return together.
    pub fn refuse(&self) -> Duration {
        let wait = self.0.lock().refuse();
        spread(wait)
    }
}

impl Wait {
    /// Counts a refusal. Returns the average back-off.
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

    fn wait(places: &ConcurrencyLimit) -> Duration {
        places.refusals.0.lock().average
    }

    /// Simulates this many waiting callers that return when they are told to. Returns the final
    /// number of refusals per second.
    async fn refused_in_the_end(waiting: f64) -> f64 {
        let places = ConcurrencyLimit::new(100, 50);
        let mut refused = 0.0;
        for _ in 0..10 {
            let due = waiting / wait(&places).div_duration_f64(INTERVAL);
            refused = 0.0;
            while refused < due {
                places.refusals.0.lock().refuse();
                refused += 1.0;
            }
            tokio::time::advance(INTERVAL).await;
        }
        refused
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiting_callers_retry_a_few_at_a_time() {
        // Refusals up to the target do not lengthen the back-off.
        assert!((49.0..=51.0).contains(&refused_in_the_end(50.0).await));
        assert!((25.0..=75.0).contains(&refused_in_the_end(1000.0).await));
        // The back-off has an upper limit, so more callers mean more refusals.
        assert!((990.0..=1010.0).contains(&refused_in_the_end(30_000.0).await));
    }

    #[tokio::test(start_paused = true)]
    async fn the_suggested_wait_is_short_again_after_the_overload() {
        let places = ConcurrencyLimit::new(1, 1);
        let _place = places.take().expect("a place");
        for _ in 0..1000 {
            places.take().expect_err("no place");
        }
        tokio::time::advance(INTERVAL).await;
        places.take().expect_err("no place");
        assert_eq!(wait(&places), WAIT_MAX);
        tokio::time::advance(WAIT_MAX * 2).await;
        places.take().expect_err("no place");
        assert_eq!(wait(&places), WAIT_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_refused_together_get_different_waits() {
        let places = ConcurrencyLimit::new(1, 1);
        let _place = places.take().expect("a place");
        let mut waits: Vec<_> = (0..100).map(|_| places.take().expect_err("no place")).collect();
        assert!(waits.iter().all(|wait| (WAIT_MIN / 2..WAIT_MIN * 3 / 2).contains(wait)));
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 90);
    }
}
