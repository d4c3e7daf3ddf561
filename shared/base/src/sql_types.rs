//! Column types that are native on each backend: `uuid` and `timestamptz` on PostgreSQL, a BLOB of
//! 16 bytes and an INTEGER of microseconds on SQLite. A `table!` names them, and the query is
//! written once.

use diesel::{
    query_builder::QueryId,
    sql_types::{Interval, SqlType, ops},
};

/// A UUID; [`Id`](crate::ids::Id) in Rust.
#[derive(Clone, Copy, Debug, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951), sqlite_type(name = "Binary"))]
pub struct Uuid;

/// A moment in UTC; [`Timestamp`](crate::clock::Timestamp) in Rust.
#[derive(Clone, Copy, Debug, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185), sqlite_type(name = "Long"))]
pub struct Timestamp;

// `table!` goes by a column type's last name, and wants these of every `Timestamp`. SQLite has no
// intervals, so that no query which is written once can use them.
impl ops::Add for Timestamp {
    type Rhs = Interval;
    type Output = Self;
}

impl ops::Sub for Timestamp {
    type Rhs = Interval;
    type Output = Self;
}

/// So that the database can say which one is the latest.
impl diesel::sql_types::SqlOrd for Timestamp {}
