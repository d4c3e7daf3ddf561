//! Storage on SQLite and PostgreSQL.
//!
//! A query is written once, in [`query!`], and is type-checked for both backends. Writes go through
//! [`write_tx!`]: `BEGIN IMMEDIATE` on SQLite's single writer, a plain `BEGIN` (READ COMMITTED) on
//! PostgreSQL. All other differences (row locks, advisory locks, TLS) are handled only in this
//! crate.
//!
//! Every wait is bounded: for a connection, for a statement, for a commit. A connection in an
//! unknown state is closed and never reused. This happens if a call is cancelled in the middle of a
//! statement, or if the database does not answer.

mod args;
mod backend;
mod command;
mod conn;
mod connector;
mod database;
mod error;
mod fail_over;
mod group_commit;
mod in_place;
mod lease;
mod loader;
mod macros;
mod migrate;
mod migrate_error;
mod notify;
mod open_error;
mod pool;
mod pooler;
mod pooler_error;
mod postgres;
pub mod prelude;
mod prepared;
mod server;
mod settings;
mod settled;
mod sqlite;
mod start;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod text_enum;
mod time;
mod tls;
mod transaction;

// The test attribute `on_both_backends` refers to this crate by its external name.
#[cfg(test)]
extern crate self as db;

#[cfg(test)]
use self::tests::MIGRATIONS;
pub use base::sql_types;

pub use self::{
    args::DatabaseArgs,
    backend::Backend,
    command::Migrate,
    conn::{Conn, Raw, Statement, not_on_sqlite},
    database::Db,
    error::{Error, Result},
    group_commit::{GroupCommit, GroupOutcome, GroupWriter},
    lease::Lease,
    loader::Loader,
    migrate::{MigrationLock, Migrations, bring_up_to_date, migrate, pending},
    migrate_error::MigrateError,
    notify::{Announced, Announcements, Notifications, SettleGuard, announce, notify, settle},
    open_error::OpenError,
    pooler_error::PoolerError,
    prepared::{Cached, CachedDsl, Prepared, Sql, prepared},
    settings::{DatabaseSettings, DatabaseUrl, ParseDatabaseUrlError},
    text_enum::UnknownText,
    time::DatabaseTime,
    transaction::{Snapshot, Transaction},
};

/// Maximum number of rows that one statement inserts. SQLite accepts 32,766 values per statement
/// and PostgreSQL 65,535.
#[doc(hidden)]
pub const MAX_ROWS: usize = 1800;
