//! A bounded number of places for work that takes its time. Who finds none is refused at once,
//! which costs next to nothing, instead of queueing until they have given up.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::error::spread;

/// Bounds of what whoever is refused is told to wait, on average.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often it is looked at how many came back.
const INTERVAL: Duration = Duration::from_secs(1);

/// The places.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    refusals: Refusals,
}

/// Tells those who are refused how long to wait, so that they come back a few at a time.
#[derive(Clone, Debug)]
pub struct Refusals(Arc<Mutex<Wait>>);

/// How long to wait for a place. As long as it takes for those who wait to come back a few at a
/// time: to refuse somebody costs next to nothing, but to refuse very many leaves nothing for those
/// who have a place.
#[derive(Debug)]
struct Wait {
    average: Duration,
    /// Since when, and how many.
    since: Instant,
    refused: u32,
    /// How many may be refused in an interval.
    target: u32,
}

impl ConcurrencyLimit {
    /// So many. Those who are refused are told to wait so that, where they do, about so many
    /// `refusals` a second are left, or fewer.
    pub fn new(places: u32, refusals: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(
                usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            refusals: Refusals::new(refusals),
        }
    }

    /// A place, kept until it is dropped; or how long to wait before asking again: half of the
    /// average to one and a half, by lot, so that who was refused together does not come back
    /// together.
    ///
    /// # Errors
    ///
    /// All of them are taken.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, Duration> {
        Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| self.refusals.refuse())
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }
}

impl Refusals {
    /// Creates a counter that aims at so many refusals a second, or fewer.
    pub fn new(target: u32) -> Self {
        Self(Arc::new(Mutex::new(Wait {
            average: WAIT_MIN,
            since: Instant::now(),
            refused: 0,
            target: target.max(1),
        })))
    }

    /// Counts a refusal, and returns how long to wait before asking again: half of the average to
    /// one and a half, by lot, so that who was refused together does not come back together.
    pub fn refuse(&self) -> Duration {
        let wait = self.0.lock().refuse();
        spread(wait)
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

    fn wait(places: &ConcurrencyLimit) -> Duration {
        places.refusals.0.lock().average
    }

    /// So many wait, and come back when they are told to. How many are refused in each second in
    /// the end.
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
    async fn many_who_wait_come_back_a_few_at_a_time() {
        // As many as may be refused are not told to wait longer.
        assert!((49.0..=51.0).contains(&refused_in_the_end(50.0).await));
        assert!((25.0..=75.0).contains(&refused_in_the_end(1000.0).await));
        // Nobody waits for longer than the most.
        assert!((990.0..=1010.0).contains(&refused_in_the_end(30_000.0).await));
    }

    #[tokio::test(start_paused = true)]
    async fn when_it_is_over_the_wait_is_short_again() {
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
    async fn who_is_refused_together_does_not_come_back_together() {
        let places = ConcurrencyLimit::new(1, 1);
        let _place = places.take().expect("a place");
        let mut waits: Vec<_> = (0..100).map(|_| places.take().expect_err("no place")).collect();
        assert!(waits.iter().all(|wait| (WAIT_MIN / 2..WAIT_MIN * 3 / 2).contains(wait)));
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 90);
    }
}
