//! Storage on SQLite and PostgreSQL.
//!
//! A query is written once, in [`query!`], and type-checked for both backends. Writes go through [`write_tx!`]:
//! `BEGIN IMMEDIATE` on the single writer of SQLite, a plain `BEGIN` (READ COMMITTED) on PostgreSQL. What differs
//! beyond that (row locks, advisory locks, TLS) has its one place in here.
//!
//! Every wait is bounded: for a connection, for a statement, for a commit. A connection whose state is not known,
//! because a call was cancelled in the middle of a statement or the database did not answer, is closed and not reused.

mod conn;
mod connector;
mod error;
mod in_place;
mod lease;
mod loader;
mod macros;
mod migrate;
mod notify;
mod pool;
mod pooler;
mod postgres;
pub mod prelude;
mod prepared;
mod settings;
mod settled;
pub mod sql_types;
mod sqlite;
#[cfg(test)]
mod tests;
mod time;
mod tls;
mod transaction;

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    conn::{Conn, Raw, Statement},
    error::{Error, Result},
    lease::Lease,
    loader::Loader,
    migrate::{MigrateError, MigrationLock, Migrations, bring_up_to_date, migrate, pending},
    notify::{Announced, Announcements, Notifications, announce, notify},
    pooler::PoolerError,
    prepared::{Cached, CachedDsl, Prepared, Words, prepared},
    settings::{DatabaseSettings, DatabaseUrl, ParseDatabaseUrlError},
    sqlite::OpenError,
    time::DatabaseTime,
    transaction::{Snapshot, Transaction},
};
pub use crate::{insert_rows, lock_row, query, write_tx};

/// Interval of checks whether another process has released the file.
const FREE_LOOK: Duration = Duration::from_millis(50);
/// Longest wait of a command for that.
const FREE_PATIENCE: Duration = Duration::from_secs(30);
/// From one try to the next while a service starts before its database; twice as long after each.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Rows of one statement: SQLite takes 32,766 values and PostgreSQL 65,535.
#[doc(hidden)]
pub const MAX_ROWS: usize = 2000;

/// How long [`Db::ping`] waits, so that readiness follows the database within two seconds.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A file that one process serves.
    Sqlite,
    /// A server that many processes share.
    Postgres,
}

impl Backend {
    /// `db.system.name` of OpenTelemetry.
    const fn system_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}

/// A database. Clones share its connections.
#[derive(Clone)]
pub enum Db {
    /// One writer, many readers, in one file.
    Sqlite(sqlite::Pools),
    /// A pool of connections to a server.
    Postgres(postgres::Pool),
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.backend()).finish()
    }
}

impl Db {
    /// Opens the file, or prepares the pool: PostgreSQL is first spoken to by the first query, so that a service
    /// can start before its database.
    pub async fn connect(settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        match settings.url.target() {
            settings::Target::Sqlite(path) => sqlite::Pools::open(&path, settings).await.map(Self::Sqlite),
            settings::Target::Postgres(server) => {
                let direct = match settings.direct_url.as_ref().map(DatabaseUrl::target) {
                    Some(settings::Target::Postgres(direct)) => Some(*direct),
                    Some(settings::Target::Sqlite(_)) | None => None,
                };
                postgres::Pool::new(*server, direct, settings).map(Self::Postgres)
            }
        }
    }

    /// Opens the database for a command. If another process is using the SQLite file, waits up to 30 seconds until it
    /// is free.
    pub async fn connect_when_free(settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        let start = Instant::now();
        loop {
            match Self::connect(settings).await {
                Err(OpenError::InUse(_)) if start.elapsed() < FREE_PATIENCE => {
                    tokio::time::sleep(FREE_LOOK).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Opens a database that is there for a command that works on it beside the service: on SQLite without the lock by which one process alone
    /// serves the file. Such a command hears of nothing, and does nothing that the service goes by without a look into the database.
    pub async fn connect_beside(settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        match settings.url.target() {
            settings::Target::Sqlite(path) => sqlite::Pools::open_beside(&path, settings).await.map(Self::Sqlite),
            settings::Target::Postgres(_) => Self::connect(settings).await,
        }
    }

    /// Which of the two databases it is.
    pub const fn backend(&self) -> Backend {
        match self {
            Self::Sqlite(_) => Backend::Sqlite,
            Self::Postgres(_) => Backend::Postgres,
        }
    }

    /// A connection for queries. On SQLite it cannot write.
    pub async fn read(&self) -> Result<Conn> {
        match self {
            Self::Sqlite(pools) => pools.reader().await,
            Self::Postgres(pool) => pool.get().await,
        }
    }

    /// The same for queries that may read much: of all users, or of a whole table. Other calls go on meanwhile.
    pub async fn scan(&self) -> Result<Conn> {
        let conn = self.read().await?;
        Ok(match self {
            Self::Sqlite(_) => conn.long(),
            Self::Postgres(_) => conn,
        })
    }

    /// A connection for statements that write, each of which is a transaction of its own. On SQLite this waits until nobody else writes.
    pub async fn write(&self) -> Result<Conn> {
        match self {
            Self::Sqlite(pools) => Ok(pools.writer().await?.kept_by(pools.disk())),
            Self::Postgres(pool) => pool.get().await,
        }
    }

    /// Begins a write transaction. Use [`write_tx!`], which also ends it.
    ///
    /// On SQLite this waits until no other write transaction is open.
    pub async fn begin(&self) -> Result<Transaction> {
        let conn = match self {
            Self::Sqlite(pools) => pools.writer().await?,
            Self::Postgres(pool) => pool.get().await?,
        };
        Transaction::begin(conn, self.clone()).await
    }

    /// A connection for queries that all see the database as it is at one moment.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.read().await?).await
    }

    /// The same for queries that may read much.
    pub async fn long_snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.scan().await?).await
    }

    const fn hub(&self) -> &notify::Hub {
        match self {
            Self::Sqlite(pools) => pools.hub(),
            Self::Postgres(pool) => pool.hub(),
        }
    }

    /// Waits until the database answers and takes writes. False if `stop` was cancelled first.
    pub async fn wait_until_available(&self, stop: &CancellationToken) -> bool {
        let answers = async {
            let mut wait = FIRST_WAIT;
            let mut said = Vec::new();
            while let Err(error) = self.reach().await {
                // Waiting does not help. What comes next says more of it.
                if matches!(error, Error::StatementLost(_)) {
                    break;
                }
                let why = error.to_string();
                // Once for each reason: a standby may be waited on for a long time.
                if said.contains(&why) {
                    tracing::debug!(%error, "waiting for the database");
                } else {
                    tracing::warn!(%error, "waiting for the database");
                    said.push(why);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        };
        stop.run_until_cancelled(answers).await.is_some()
    }

    /// Asks whether the database answers and takes writes, within a second.
    pub async fn ping(&self) -> Result<()> {
        let answer = async { self.read().await?.ping().await };
        tokio::time::timeout(PING_TIMEOUT, answer).await.unwrap_or_else(|_| {
            Err(match self {
                Self::Postgres(pool) if pool.is_at_limit() => connector::at_limit(),
                Self::Postgres(_) | Self::Sqlite(_) => Error::Unavailable("no answer to a ping".to_owned()),
            })
        })
    }

    /// The same past the pooler as well, if there is one.
    async fn reach(&self) -> Result<()> {
        self.ping().await?;
        match self {
            Self::Postgres(pool) if pool.has_direct() => pool.dedicated().await.map(drop),
            Self::Postgres(_) | Self::Sqlite(_) => Ok(()),
        }
    }
}
