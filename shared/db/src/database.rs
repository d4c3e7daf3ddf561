//! A database, whichever of the two it is.

use std::{fmt, time::Duration};

use base::{backoff::Backoff, running::Running};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backend::Backend,
    conn::Conn,
    connector,
    error::{Error, Result},
    notify::{Announcements, Hub, Notifications},
    open_error::OpenError,
    postgres,
    settings::{self, DatabaseSettings, DatabaseUrl},
    sqlite,
    transaction::{Snapshot, Transaction},
};

/// Interval of checks whether another process has released the file.
const FREE_LOOK: Duration = Duration::from_millis(50);
/// Longest wait of a command for that.
const FREE_PATIENCE: Duration = Duration::from_secs(30);
/// Pauses between attempts while a service waits for its database.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Interval of the metrics of the pools.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// How long [`Db::ping`] waits, so that readiness follows the database within two seconds.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A database. Clones share its connections.
#[derive(Clone)]
pub struct Db {
    connections: Connections,
    hub: Hub,
}

/// The connections to a database.
#[derive(Clone)]
pub(super) enum Connections {
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
    /// Opens the file, or prepares the pool: PostgreSQL is first spoken to by the first query, so
    /// that a service can start before its database.
    pub async fn connect(settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        match settings.url.target() {
            settings::Target::Sqlite(path) => sqlite::Pools::open(&path, settings).await.map(Self::of_file),
            settings::Target::Postgres(server) => {
                let direct = match settings.direct_url.as_ref().map(DatabaseUrl::target) {
                    Some(settings::Target::Postgres(direct)) => Some(*direct),
                    Some(settings::Target::Sqlite(_)) | None => None,
                };
                postgres::Pool::new(*server, direct, settings).map(Self::of_server)
            }
        }
    }

    /// Opens the database for a command. If another process is using the SQLite file, waits up to
    /// 30 seconds until it is free.
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

    /// Opens a database that is there for a command that works on it beside the service: on SQLite
    /// without the lock by which one process alone serves the file. Such a command hears of
    /// nothing, and does nothing that the service goes by without a look into the database.
    pub async fn connect_beside(settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        match settings.url.target() {
            settings::Target::Sqlite(path) => sqlite::Pools::open_beside(&path, settings).await.map(Self::of_file),
            settings::Target::Postgres(_) => Self::connect(settings).await,
        }
    }

    /// Which of the two databases it is.
    pub const fn backend(&self) -> Backend {
        match &self.connections {
            Connections::Sqlite(_) => Backend::Sqlite,
            Connections::Postgres(_) => Backend::Postgres,
        }
    }

    /// A connection for queries. On SQLite it cannot write.
    pub async fn read(&self) -> Result<Conn> {
        match &self.connections {
            Connections::Sqlite(pools) => pools.reader().await,
            Connections::Postgres(pool) => pool.get().await,
        }
    }

    /// The same for queries that may read much: of all users, or of a whole table. Other calls go
    /// on meanwhile.
    pub async fn scan(&self) -> Result<Conn> {
        let conn = self.read().await?;
        Ok(match &self.connections {
            Connections::Sqlite(_) => conn.long(),
            Connections::Postgres(_) => conn,
        })
    }

    /// A connection for statements that write, each of which is a transaction of its own. On SQLite
    /// this waits until nobody else writes.
    pub async fn write(&self) -> Result<Conn> {
        match &self.connections {
            Connections::Sqlite(pools) => Ok(pools.writer().await?.kept_by(pools.disk())),
            Connections::Postgres(pool) => pool.get().await,
        }
    }

    /// Begins a write transaction. Use [`write_tx!`](crate::write_tx), which also ends it.
    ///
    /// On SQLite this waits until no other write transaction is open.
    pub async fn begin(&self) -> Result<Transaction> {
        let (conn, file) = match &self.connections {
            Connections::Sqlite(pools) => (pools.writer().await?, Some(pools.clone())),
            Connections::Postgres(pool) => (pool.get().await?, None),
        };
        Transaction::begin(conn, self.hub.clone(), file).await
    }

    /// A connection for queries that all see the database as it is at one moment.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.read().await?).await
    }

    /// The same for queries that may read much.
    pub async fn long_snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.scan().await?).await
    }

    /// Word of every commit that [notifies](crate::notify()) this channel from now on.
    pub fn subscribe(&self, channel: &'static str) -> Notifications {
        self.hub.subscribe(channel)
    }

    /// What is [announced](crate::announce()) on this channel from now on, here or by another
    /// process.
    pub fn announcements(&self, channel: &'static str) -> Announcements {
        self.hub.announcements(channel)
    }

    /// Tells whoever listens to this channel that what has this key has changed. It waits for
    /// nothing.
    pub fn announce(&self, channel: &'static str, key: Uuid) {
        self.hub.announce(channel, key);
    }

    /// From now on whoever commits in this process a transaction that has
    /// [notified](crate::notify()) the channel also waits for this future, which is given the
    /// number that was notified. It must end by itself, and must not hold this database: that would
    /// keep it open for ever.
    pub fn settle_commits<F>(&self, channel: &'static str, settle: impl Fn(i64) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.hub.settle_commits(channel, settle);
    }

    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Waits until the database answers and takes writes. False if `stop` was cancelled first.
    pub async fn wait_until_available(&self, stop: &CancellationToken) -> bool {
        let answers = async {
            let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
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
                backoff.pause().await;
            }
        };
        stop.run_until_cancelled(answers).await.is_some()
    }

    /// Asks whether the database answers and takes writes, within a second.
    pub async fn ping(&self) -> Result<()> {
        let answer = async { self.read().await?.ping().await };
        tokio::time::timeout(PING_TIMEOUT, answer).await.unwrap_or_else(|_| {
            Err(match &self.connections {
                Connections::Postgres(pool) if pool.is_at_limit() => connector::at_limit(),
                Connections::Postgres(_) | Connections::Sqlite(_) => {
                    Error::Unavailable("no answer to a ping".to_owned())
                }
            })
        })
    }

    /// Notes how its pools stand, until the stop token is cancelled.
    pub fn report(&self, running: &Running) {
        let connections = self.connections.clone();
        running.follow("database pools", async move {
            let mut ticks = tokio::time::interval(REPORT_INTERVAL);
            loop {
                ticks.tick().await;
                match &connections {
                    Connections::Sqlite(pools) => pools.report(),
                    Connections::Postgres(pool) => pool.report(),
                }
            }
        });
    }

    fn of_file(pools: sqlite::Pools) -> Self {
        Self {
            connections: Connections::Sqlite(pools),
            hub: Hub::of_process(),
        }
    }

    fn of_server(pool: postgres::Pool) -> Self {
        Self {
            hub: Hub::of_server(pool.clone()),
            connections: Connections::Postgres(pool),
        }
    }

    /// The same past the pooler as well, if there is one.
    async fn reach(&self) -> Result<()> {
        self.ping().await?;
        match &self.connections {
            Connections::Postgres(pool) if pool.has_direct() => pool.dedicated().await.map(drop),
            Connections::Postgres(_) | Connections::Sqlite(_) => Ok(()),
        }
    }
}
