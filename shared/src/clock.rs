//! The one clock. Everything that asks what time it is asks here, so that a test can steer it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use diesel::{deserialize::FromSqlRow, expression::AsExpression};

use crate::db::sql_types;

/// A moment: microseconds since 1970-01-01T00:00:00Z, which is also the precision of both databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql_types::Timestamp)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, as JSON Web Tokens count them (RFC 7519, NumericDate).
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This much later, or the last moment there is.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// This much earlier, or the first moment there is.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// How long ago `earlier` was; zero where it lies ahead, as it may after the clock was set back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        let nanos = timestamp.0.rem_euclid(1_000_000) * 1_000;
        Self {
            seconds: timestamp.as_seconds(),
            nanos: i32::try_from(nanos).unwrap_or(0),
        }
    }
}

impl From<prost_types::Timestamp> for Timestamp {
    /// Cuts what is finer than a microsecond, and what lies beyond the first or last moment there is.
    fn from(timestamp: prost_types::Timestamp) -> Self {
        let micros = timestamp.seconds.saturating_mul(1_000_000);
        Self(micros.saturating_add((timestamp.nanos / 1_000).into()))
    }
}

/// Tells the time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` until it is steered.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shared::clock::{Clock, Timestamp};
    ///
    /// let (clock, hand) = Clock::manual(Timestamp::from_micros(0));
    /// hand.advance(Duration::from_secs(30));
    /// assert_eq!(clock.now().as_seconds(), 30);
    /// ```
    pub fn manual(start: Timestamp) -> (Self, ClockHand) {
        let micros = Arc::new(AtomicI64::new(start.0));
        (Self(Source::Manual(Arc::clone(&micros))), ClockHand(micros))
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
            Source::System => {
                // A machine set to before 1970 gets 1970: every token is then from the future and refused.
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(micros(elapsed))
            }
            Source::Manual(micros) => Timestamp(micros.load(Ordering::SeqCst)),
        }
    }
}

/// Steers a manual [`Clock`].
#[derive(Clone, Debug)]
pub struct ClockHand(Arc<AtomicI64>);

impl ClockHand {
    /// Another clock that it steers.
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// Lets this much time pass.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(micros(duration), Ordering::SeqCst);
    }

    /// Sets the clock, also back.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
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
