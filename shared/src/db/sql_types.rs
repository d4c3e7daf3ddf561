//! Column types that are native on each backend: `uuid` and `timestamptz` on PostgreSQL, a BLOB of
//! 16 bytes and an INTEGER of microseconds on SQLite. A `table!` names them, and the query is written once.

use std::io::Write as _;

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql},
    pg::{Pg, PgValue},
    query_builder::QueryId,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::{BigInt, Interval, SqlType, ops},
    sqlite::Sqlite,
};

use crate::clock;

/// A UUID; [`Id`](crate::ids::Id) in Rust.
#[derive(Clone, Copy, Debug, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951), sqlite_type(name = "Binary"))]
pub struct Uuid;

/// A moment in UTC; [`clock::Timestamp`] in Rust.
#[derive(Clone, Copy, Debug, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185), sqlite_type(name = "Long"))]
pub struct Timestamp;

// `table!` goes by a column type's last name, and wants these of every `Timestamp`. SQLite has no intervals, so that no
// query which is written once can use them.
impl ops::Add for Timestamp {
    type Rhs = Interval;
    type Output = Self;
}

impl ops::Sub for Timestamp {
    type Rhs = Interval;
    type Output = Self;
}

/// PostgreSQL counts from 2000-01-01T00:00:00Z.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800 * 1_000_000;

impl FromSql<Timestamp, Pg> for clock::Timestamp {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let micros = <i64 as FromSql<BigInt, Pg>>::from_sql(value)?;
        Ok(Self::from_micros(micros.saturating_add(POSTGRES_EPOCH_MICROS)))
    }
}

impl ToSql<Timestamp, Pg> for clock::Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let micros = self.as_micros().saturating_sub(POSTGRES_EPOCH_MICROS);
        out.write_all(&micros.to_be_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<Timestamp, Sqlite> for clock::Timestamp {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        <i64 as FromSql<BigInt, Sqlite>>::from_sql(value).map(Self::from_micros)
    }
}

impl ToSql<Timestamp, Sqlite> for clock::Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.as_micros());
        Ok(IsNull::No)
    }
}

/// So that the database can say which one is the latest.
impl diesel::sql_types::SqlOrd for Timestamp {}
