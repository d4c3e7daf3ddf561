//! Padding of refused passwords, so that a refusal takes the same time for every name.
//!
//! Hashes that were imported from another system take more or less time than ours, and ours from
//! before their settings were raised take less. A caller who measures a refusal could tell by it
//! that a user with such a hash exists. So a thread goes on working after a wrong password until it
//! has used at least as much processor time as one of our hashes takes, and as the slowest imported
//! hash if there are any. A hash of ours that costs more, because the settings were lowered since,
//! is not hidden. Processor time is compared, not the time of a clock, so that padded and genuine
//! work are delayed alike when the processors are busy.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    time::Duration,
};

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use parking_lot::Mutex;

use super::{imported::Cost, low_priority::processor_time};

/// Iterations of PBKDF2 between two looks at the time: about 0.1 ms of work.
const CHUNK: NonZeroU32 = NonZeroU32::new(250).expect("it is not 0");
/// Share of the latest observation in the expected time of a hash.
const WEIGHT: f64 = 0.2;

/// Processor time that hashes take, and how long a refusal must take.
#[derive(Debug, Default)]
pub(super) struct Padding(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Processor time of a hash of each cost that was measured.
    times: HashMap<Cost, Duration>,
    /// Costs of the hashes that are present.
    present: HashSet<Cost>,
    /// Longest time of a hash that is present, or zero until one was measured.
    longest: Duration,
}

impl Padding {
    /// Returns whether no hash of this cost was measured yet.
    pub(super) fn is_unmeasured(&self, cost: Cost) -> bool {
        !self.0.lock().times.contains_key(&cost)
    }

    /// Sets the costs of the hashes that are present. One that was not measured counts once it is.
    pub(super) fn set_present(&self, costs: &[Cost]) {
        let mut state = self.0.lock();
        state.present = costs.iter().copied().collect();
        state.update();
    }

    /// Records how much processor time a hash of this cost has taken.
    pub(super) fn observe(&self, cost: Cost, time: Duration) {
        let mut state = self.0.lock();
        let expected = state.times.entry(cost).or_insert(time);
        *expected = expected.mul_f64(1.0 - WEIGHT) + time.mul_f64(WEIGHT);
        state.update();
    }

    /// Works until the thread has had enough processor time since `start`.
    pub(super) fn work_since(&self, start: Duration) {
        let end = start + self.0.lock().longest;
        let mut output = [0; 32];
        while processor_time() < end {
            let salt = output;
            pbkdf2::derive(PBKDF2_HMAC_SHA256, CHUNK, &salt, b"padding", &mut output);
        }
    }
}

impl State {
    fn update(&mut self) {
        let times = self.present.iter().filter_map(|cost| self.times.get(cost));
        self.longest = times.max().copied().unwrap_or_default();
    }
}

/// Returns the most expensive cost of each family among these.
pub(super) fn most_expensive(costs: &[Cost]) -> Vec<Cost> {
    let mut by_family: HashMap<&str, Cost> = HashMap::new();
    for cost in costs {
        let most = by_family.entry(cost.family()).or_insert(*cost);
        if cost.work() > most.work() {
            *most = *cost;
        }
    }
    by_family.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Cost = Cost::Bcrypt { cost: 12 };
    const QUICK: Cost = Cost::Bcrypt { cost: 8 };

    #[test]
    fn a_refusal_takes_as_long_as_the_slowest_hash_that_is_present() {
        let padding = Padding::default();
        assert!(padding.is_unmeasured(SLOW));
        padding.observe(SLOW, Duration::from_millis(40));
        padding.observe(QUICK, Duration::from_millis(5));
        let worked = || {
            let start = processor_time();
            padding.work_since(start);
            processor_time().saturating_sub(start)
        };
        assert!(worked() < Duration::from_millis(2), "no such hash is present yet");
        padding.set_present(&[QUICK, SLOW]);
        assert!((40..50).contains(&worked().as_millis()));
        padding.set_present(&[QUICK]);
        assert!((5..15).contains(&worked().as_millis()));
        // Work that was done already counts.
        let start = processor_time();
        padding.work_since(start.saturating_sub(Duration::from_secs(1)));
        assert!(processor_time().saturating_sub(start) < Duration::from_millis(2));
    }

    #[test]
    fn the_expected_time_follows_the_observed_one() {
        let padding = Padding::default();
        padding.observe(SLOW, Duration::from_millis(100));
        padding.set_present(&[SLOW]);
        for _ in 0..30 {
            padding.observe(SLOW, Duration::from_millis(200));
        }
        assert!((199..=200).contains(&padding.0.lock().longest.as_millis()));
    }

    #[test]
    fn one_cost_of_each_family_is_the_most_expensive() {
        let other = Cost::Scrypt { log_n: 14, r: 8, p: 1 };
        let most: HashSet<Cost> = most_expensive(&[QUICK, SLOW, other, QUICK]).into_iter().collect();
        assert_eq!(most, HashSet::from([SLOW, other]));
    }
}
