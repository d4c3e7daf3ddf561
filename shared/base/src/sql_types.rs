//! Column types that are native on each backend: `uuid` and `timestamptz` on PostgreSQL, a BLOB of
//! 16 bytes and an INTEGER of microseconds on SQLite. With these types in a `table!`, a query is
//! written once for both backends.

use diesel::{
    query_builder::QueryId,
    sql_types::{Interval, SqlType, ops},
};

/// A UUID. Its Rust type is [`Id`](crate::ids::Id).
#[derive(Clone, Copy, Debug, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951), sqlite_type(name = "Binary"))]
pub struct Uuid;

/// A moment in UTC. Its Rust type is [`Timestamp`](crate::clock::Timestamp).
#[derive(Clone, Copy, Debug, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185), sqlite_type(name = "Long"))]
pub struct Timestamp;

// `table!` recognizes a column type by the last segment of its path, and requires these impls for
// every `Timestamp`. No query for both backends can use them, because SQLite has no intervals.
impl ops::Add for Timestamp {
    type Rhs = Interval;
    type Output = Self;
}

impl ops::Sub for Timestamp {
    type Rhs = Interval;
    type Output = Self;
}

/// Allows queries for the latest moment, such as `max`.
impl diesel::sql_types::SqlOrd for Timestamp {}
