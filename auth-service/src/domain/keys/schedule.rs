//! Schedule of the signing keys: when each step is due. The functions here are pure; the
//! transactions are in `ring`.

use std::{collections::HashMap, time::Duration};

use base::clock::{Settled, Timestamp};

use crate::model::{KeyState, SigningKeyRecord};

/// Times of the rotation of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeySchedule {
    /// How long a key is published before it signs.
    pub(crate) prepublish: Duration,
    /// How long a key signs; `None` means until it is rotated on request.
    pub(crate) rotation: Option<Duration>,
}

/// Monotonic times since which this process has seen each key in its present state.
#[derive(Debug, Default)]
pub(super) struct Sightings(HashMap<(String, KeyState), Duration>);

/// The times by which steps are due.
#[derive(Clone, Copy)]
pub(super) struct KeyTime<'a> {
    /// Time by the wall clock; `None` while that cannot be relied on.
    pub(super) settled: Option<Settled>,
    pub(super) monotonic: Duration,
    pub(super) sightings: &'a Sightings,
    /// How long a retired key is kept.
    pub(super) kept: Duration,
}

/// A step that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Create and publish the next key.
    Publish,
    /// Activate the next key.
    Activate,
    /// Delete the retired key with this id.
    Expire(String),
}

impl KeySchedule {
    /// Returns how long verifiers and caches may keep the public keys without asking again.
    pub(super) fn cache_time(&self) -> Duration {
        const LONGEST: Duration = Duration::from_mins(5);
        LONGEST.min(self.prepublish / 2)
    }

    /// Lists the steps that are due.
    pub(super) fn due(&self, rows: &[SigningKeyRecord], time: KeyTime<'_>) -> Vec<Due> {
        let of = |state: KeyState| rows.iter().filter(move |row| row.state == state);
        let is_past = |at: Timestamp| time.settled.is_some_and(|settled| settled.past() >= at);
        let mut due = Vec::new();
        if let Some(next) = of(KeyState::Next).next() {
            // The planned time may come from a replica whose clock was behind. After the cache
            // time, every cache has the key in any case.
            let is_due = is_past(next.activate_time) && time.seen(next) >= self.cache_time();
            if is_due || time.seen(next) >= self.prepublish {
                due.push(Due::Activate);
            }
        } else {
            let active = of(KeyState::Active).next();
            let is_old = active.zip(self.rotation).is_some_and(|(active, rotation)| {
                is_past(active.activate_time.plus(rotation.saturating_sub(self.prepublish)))
            });
            if is_old {
                due.push(Due::Publish);
            }
        }
        let is_dead = |row: &&SigningKeyRecord| row.expire_time.is_some_and(is_past) && time.seen(row) >= time.kept;
        let dead = of(KeyState::Retired).filter(is_dead);
        due.extend(dead.map(|row| Due::Expire(row.kid.clone())));
        due
    }
}

impl Sightings {
    /// Records the present keys and their states, and forgets others.
    pub(super) fn note(&mut self, rows: &[SigningKeyRecord], monotonic: Duration) {
        let name = |row: &SigningKeyRecord| (row.kid.clone(), row.state);
        let seen = |row: &SigningKeyRecord| self.0.get(&name(row)).copied().unwrap_or(monotonic);
        self.0 = rows.iter().map(|row| (name(row), seen(row))).collect();
    }
}

impl KeyTime<'_> {
    /// Returns how long this process has seen the key in its state.
    fn seen(&self, row: &SigningKeyRecord) -> Duration {
        let since = self.sightings.0.get(&(row.kid.clone(), row.state));
        since.map_or(Duration::ZERO, |since| self.monotonic.saturating_sub(*since))
    }
}

#[cfg(test)]
mod tests {
    use base::clock::Clock;

    use super::*;

    const SCHEDULE: KeySchedule = KeySchedule {
        prepublish: Duration::from_secs(100),
        rotation: Some(Duration::from_secs(1000)),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
    }

    fn row(state: KeyState, activate: u64, expire: Option<u64>) -> SigningKeyRecord {
        SigningKeyRecord {
            kid: format!("{state:?}"),
            state,
            public_key: Vec::new(),
            encrypted_private_key: Vec::new(),
            create_time: at(0),
            activate_time: at(activate),
            retire_time: None,
            expire_time: expire.map(at),
        }
    }

    /// Returns the steps that are due at the second `now`, for keys that this process has seen for
    /// `seen` seconds.
    fn due(schedule: KeySchedule, rows: &[SigningKeyRecord], now: u64, seen: u64) -> Vec<Due> {
        due_by(Some(now), schedule, rows, seen)
    }

    fn due_by(now: Option<u64>, schedule: KeySchedule, rows: &[SigningKeyRecord], seen: u64) -> Vec<Due> {
        let mut sightings = Sightings::default();
        sightings.note(rows, Duration::ZERO);
        let settled = now.map(|now| Clock::manual(at(now)).1.settled());
        let time = KeyTime {
            settled,
            monotonic: Duration::from_secs(seen),
            sightings: &sightings,
            kept: Duration::from_secs(500),
        };
        schedule.due(rows, time)
    }

    #[test]
    fn each_step_is_due_at_its_time_and_not_before() {
        let active = || row(KeyState::Active, 0, None);
        let next = || row(KeyState::Next, 1000, None);
        let retired = || row(KeyState::Retired, 0, Some(3000));
        // Steps are due 30 s after their times, because another process may have written the times.
        for (rows, now, expected) in [
            (vec![active()], 929, vec![]),
            (vec![active()], 930, vec![Due::Publish]),
            (vec![active(), next()], 1029, vec![]),
            (vec![active(), next()], 1030, vec![Due::Activate]),
            (vec![active(), retired()], 850, vec![]),
            (vec![row(KeyState::Active, 2500, None), retired()], 3029, vec![]),
            (
                vec![row(KeyState::Active, 2500, None), retired()],
                3030,
                vec![Due::Expire("Retired".to_owned())],
            ),
        ] {
            let seen = if rows.len() == 2 && rows[1].state == KeyState::Next {
                99
            } else {
                500
            };
            assert_eq!(due(SCHEDULE, &rows, now, seen), expected, "{now}");
        }
        let never = KeySchedule {
            rotation: None,
            ..SCHEDULE
        };
        assert_eq!(due(never, &[active()], 1_000_000, 0), []);
        // A next key that was requested is activated all the same.
        assert_eq!(due(never, &[active(), next()], 1030, 50), [Due::Activate]);
    }

    #[test]
    fn a_wrong_clock_neither_activates_nor_expires_a_key() {
        let rows = [row(KeyState::Active, 2500, None), row(KeyState::Retired, 0, Some(3000))];
        // While the clock is not settled, nothing expires. Once it is, the process must have seen
        // the key itself for long enough.
        assert_eq!(due_by(None, SCHEDULE, &rows, 1_000_000), []);
        assert_eq!(due(SCHEDULE, &rows, 3400, 499), []);
        assert_eq!(due(SCHEDULE, &rows, 3400, 500), [Due::Expire("Retired".to_owned())]);
        // The key was published by a replica whose clock was behind, so caches may not have it yet.
        let rows = [row(KeyState::Active, 2500, None), row(KeyState::Next, 1000, None)];
        assert_eq!(due(SCHEDULE, &rows, 2600, 49), []);
        assert_eq!(due(SCHEDULE, &rows, 2600, 50), [Due::Activate]);
    }

    #[test]
    fn with_an_unsettled_clock_the_next_key_is_activated_by_monotonic_time() {
        let rows = [row(KeyState::Active, 0, None), row(KeyState::Next, 1000, None)];
        assert_eq!(due_by(None, SCHEDULE, &rows, 99), []);
        assert_eq!(due_by(None, SCHEDULE, &rows, 100), [Due::Activate]);
    }
}
