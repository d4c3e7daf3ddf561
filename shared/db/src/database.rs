//! Handle to a database of either backend.

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
    notify::{Announcements, Hub, Notifications, SettleGuard},
    open_error::OpenError,
    postgres,
    settings::{self, DatabaseSettings, DatabaseUrl},
    sqlite,
    transaction::{Snapshot, Transaction},
};

/// Interval at which a command checks whether another process has released the file.
const RELEASE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Longest time that a command waits for the file to be released.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// Shortest and longest pause between attempts while a service waits for its database.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Interval at which the metrics of the pools are updated.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Time limit of [`Db::ping`], chosen so that readiness follows the database within two seconds.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A database. Clones share its connections.
#[derive(Clone)]
pub struct Db {
    connections: Connections,
    hub: Hub,
}

/// Connections to a database.
#[derive(Clone)]
pub(super) enum Connections {
    /// A single writer and several readers of one file.
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
    /// Opens the SQLite file, or prepares the pool of PostgreSQL connections. The first query
    /// contacts the PostgreSQL server, so a service can start before its database.
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
                Err(OpenError::InUse(_)) if start.elapsed() < RELEASE_TIMEOUT => {
                    tokio::time::sleep(RELEASE_POLL_INTERVAL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Opens an existing database for a command that runs beside the service. On SQLite, this
    /// bypasses the lock that reserves the file for one process. Such a command receives no
    /// notifications, and must not change anything that the service caches.
    pub async fn connect_beside(settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        match settings.url.target() {
            settings::Target::Sqlite(path) => sqlite::Pools::open_beside(&path, settings).await.map(Self::of_file),
            settings::Target::Postgres(_) => Self::connect(settings).await,
        }
    }

    /// Returns the backend of this database.
    pub const fn backend(&self) -> Backend {
        match &self.connections {
            Connections::Sqlite(_) => Backend::Sqlite,
            Connections::Postgres(_) => Backend::Postgres,
        }
    }

    /// Returns a connection for queries. On SQLite it cannot write.
    pub async fn read(&self) -> Result<Conn> {
        match &self.connections {
            Connections::Sqlite(pools) => pools.reader().await,
            Connections::Postgres(pool) => pool.get().await,
        }
    }

    /// Returns a connection for queries that may read a lot, such as all users or a whole table.
    /// Unlike [`Self::read`], these do not hold up other calls on SQLite.
    pub async fn scan(&self) -> Result<Conn> {
        let conn = self.read().await?;
        Ok(match &self.connections {
            Connections::Sqlite(_) => conn.for_long_reads(),
            Connections::Postgres(_) => conn,
        })
    }

    /// Returns a connection for writing statements, each of which is its own transaction. On
    /// SQLite, this waits until no one else is writing.
    pub async fn write(&self) -> Result<Conn> {
        match &self.connections {
            Connections::Sqlite(pools) => Ok(pools.writer().await?.writing_to(pools.disk())),
            Connections::Postgres(pool) => pool.get().await,
        }
    }

    /// Begins a write transaction. Use [`write_tx!`](crate::write_tx), which also ends it.
    ///
    /// On SQLite, this waits until no other write transaction is open.
    pub async fn begin(&self) -> Result<Transaction> {
        let (conn, file) = match &self.connections {
            Connections::Sqlite(pools) => (pools.writer().await?, Some(pools.clone())),
            Connections::Postgres(pool) => (pool.get().await?, None),
        };
        Transaction::begin(conn, self.hub.clone(), file).await
    }

    /// Begins a snapshot: a read-only connection whose queries all see the database at the same
    /// moment.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.read().await?).await
    }

    /// Begins a snapshot for queries that may read a lot; see [`Self::scan`].
    pub async fn long_snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.scan().await?).await
    }

    /// Subscribes to commits that [notify](crate::notify()) this channel from now on.
    pub fn subscribe(&self, channel: &'static str) -> Notifications {
        self.hub.subscribe(channel)
    }

    /// Subscribes to keys that are [announced](crate::announce()) on this channel from now on, by
    /// this process or any other.
    pub fn announcements(&self, channel: &'static str) -> Announcements {
        self.hub.announcements(channel)
    }

    /// Tells the subscribers of this channel that the thing with this key has changed. Returns
    /// without waiting.
    pub fn announce(&self, channel: &'static str, key: Uuid) {
        self.hub.announce(channel, key);
    }

    /// Makes every later commit in this process whose transaction has [notified](crate::notify())
    /// the channel also wait for the future that `settle` returns. `settle` receives the number of
    /// that notification. The future must finish by itself, and neither it nor `settle` may hold a
    /// handle to this database, which would then never be closed. Commits wait for all that is
    /// registered, each until its guard is dropped.
    pub fn settle_commits<F>(
        &self,
        channel: &'static str,
        settle: impl Fn(i64) -> F + Send + Sync + 'static,
    ) -> SettleGuard
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.hub.settle_commits(channel, settle)
    }

    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Waits until the database answers and accepts writes. Returns false if `stop` was cancelled
    /// first.
    pub async fn wait_until_available(&self, stop: &CancellationToken) -> bool {
        let answers = async {
            let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
            let mut said = Vec::new();
            while let Err(error) = self.reach().await {
                // Waiting does not help here, and the next step reports this error in more detail.
                if matches!(error, Error::StatementLost(_)) {
                    break;
                }
                let why = error.to_string();
                // Each reason is logged as a warning once, since waiting for a standby can take
                // long.
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

    /// Checks within a second whether the database answers and accepts writes.
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

    /// Reports the state of the connection pools as metrics, until the stop token is cancelled.
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

    /// Checks whether the database answers, both through the pooler and past it if there is one.
    async fn reach(&self) -> Result<()> {
        self.ping().await?;
        match &self.connections {
            Connections::Postgres(pool) if pool.has_direct() => pool.dedicated().await.map(drop),
            Connections::Postgres(_) | Connections::Sqlite(_) => Ok(()),
        }
    }
}
