//! A moment in UTC.

#[cfg(feature = "diesel")]
mod sql;

use std::time::Duration;

/// A moment, in microseconds since 1970-01-01T00:00:00Z. Both databases have the same precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "diesel",
    derive(diesel::expression::AsExpression, diesel::deserialize::FromSqlRow),
    diesel(sql_type = crate::sql_types::Timestamp)
)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, which is before every time that is stored.
    pub const EPOCH: Self = Self(0);

    /// Returns the moment this many microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since 1970-01-01T00:00:00Z, as in JSON Web Tokens (RFC 7519,
    /// NumericDate). Rounds down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the moment this much later, or the latest possible one if that would overflow.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// Returns the moment this much earlier, or the earliest possible one if that would overflow.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// Returns the time since `earlier`, or zero if `earlier` lies ahead, as it can after the clock
    /// was set back.
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
    /// Drops any fraction of a microsecond. A moment out of range becomes the earliest or latest
    /// possible one.
    fn from(timestamp: prost_types::Timestamp) -> Self {
        let micros = timestamp.seconds.saturating_mul(1_000_000);
        Self(micros.saturating_add((timestamp.nanos / 1_000).into()))
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
