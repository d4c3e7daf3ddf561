//! Schedule of the signing keys: when the next step is due. Pure; the transactions are in `ring`.

use std::{collections::HashMap, time::Duration};

use base::clock::{Settled, Timestamp};

use crate::model::{KeyState, SigningKeyRecord};

/// How keys follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeySchedule {
    /// How long a key is published before it signs.
    pub(crate) prepublish: Duration,
    /// How long a key signs; `None`: until somebody rotates it.
    pub(crate) rotation: Option<Duration>,
}

/// Since when, by the monotonic clock, this process has seen each key in its present state.
#[derive(Debug, Default)]
pub(super) struct Sightings(HashMap<(String, KeyState), Duration>);

/// The time, as far as keys go by it.
#[derive(Clone, Copy)]
pub(super) struct KeyTime<'a> {
    /// `None` while the wall clock cannot be relied on.
    pub(super) settled: Option<Settled>,
    pub(super) monotonic: Duration,
    pub(super) sightings: &'a Sightings,
    /// How long a key is kept that signs no more.
    pub(super) kept: Duration,
}

/// Something that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Make the next key.
    Publish,
    /// Let the next key sign.
    Activate,
    /// Delete the retired key of this name.
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
            // The time may be of a replica whose clock was behind. By now every cache has the key
            // in any case.
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
    /// Notes the keys that are there now, and forgets others.
    pub(super) fn note(&mut self, rows: &[SigningKeyRecord], monotonic: Duration) {
        let name = |row: &SigningKeyRecord| (row.kid.clone(), row.state);
        let seen = |row: &SigningKeyRecord| self.0.get(&name(row)).copied().unwrap_or(monotonic);
        self.0 = rows.iter().map(|row| (name(row), seen(row))).collect();
    }
}

impl KeyTime<'_> {
    /// For how long this process has seen the key in its state.
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

    /// Lists the steps that are due at this second, for keys that this process has seen for so
    /// long.
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
    fn each_step_is_due_in_its_time_and_not_before() {
        let active = || row(KeyState::Active, 0, None);
        let next = || row(KeyState::Next, 1000, None);
        let retired = || row(KeyState::Retired, 0, Some(3000));
        // 30 s later than the times say, which another process wrote.
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
        // One that was asked for signs all the same.
        assert_eq!(due(never, &[active(), next()], 1030, 50), [Due::Activate]);
    }

    #[test]
    fn a_wrong_clock_moves_no_key() {
        let rows = [row(KeyState::Active, 2500, None), row(KeyState::Retired, 0, Some(3000))];
        // A year ahead for a moment: nothing is settled. Once it is, the process has to have seen
        // the key itself.
        assert_eq!(due_by(None, SCHEDULE, &rows, 1_000_000), []);
        assert_eq!(due(SCHEDULE, &rows, 3400, 499), []);
        assert_eq!(due(SCHEDULE, &rows, 3400, 500), [Due::Expire("Retired".to_owned())]);
        // Published by a replica whose clock was behind: caches may not have it yet.
        let rows = [row(KeyState::Active, 2500, None), row(KeyState::Next, 1000, None)];
        assert_eq!(due(SCHEDULE, &rows, 2600, 49), []);
        assert_eq!(due(SCHEDULE, &rows, 2600, 50), [Due::Activate]);
    }

    #[test]
    fn the_next_key_signs_once_it_was_seen_for_long_enough_whatever_the_clock_says() {
        let rows = [row(KeyState::Active, 0, None), row(KeyState::Next, 1000, None)];
        assert_eq!(due_by(None, SCHEDULE, &rows, 99), []);
        assert_eq!(due_by(None, SCHEDULE, &rows, 100), [Due::Activate]);
    }
}
