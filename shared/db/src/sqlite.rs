//! A SQLite file: its single writer, its readers, and the lock that keeps other processes out.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use diesel::{Connection as _, ConnectionError, SqliteConnection, connection::SimpleConnection as _};
use diesel_async::{
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool},
    sync_connection_wrapper::SyncConnectionWrapper,
};

use super::{
    Conn, DatabaseSettings, OpenError, Result,
    conn::{Pooled, SqliteConn},
    in_place::Disk,
    pool::{PoolMetrics, QUEUE_MODE},
};

type Connections = deadpool::Pool<SqliteConn>;

#[derive(Clone)]
struct Pool {
    connections: Connections,
    metrics: Arc<PoolMetrics>,
}

/// WAL lets readers run concurrently with the writer. FULL keeps every acknowledged commit across a
/// power failure.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

/// Connections to one file.
#[derive(Clone)]
pub(crate) struct Pools {
    writer: Pool,
    readers: Pool,
    acquire_timeout: Duration,
    disk: Arc<Disk>,
    /// Lock that is held until the last clone is dropped. `None` if the file was opened beside the
    /// process that serves it.
    _lock: Option<Arc<File>>,
}

impl Pools {
    pub(super) async fn open(path: &Path, settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        let (path, lock) = create_and_lock(path)?;
        Self::connect(path, Some(Arc::new(lock)), settings).await
    }

    /// Opens an existing file without locking it, so that another process may be serving it.
    pub(super) async fn open_beside(path: &Path, settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        let failed = |source| OpenError::File {
            path: path.to_owned(),
            source,
        };
        Self::connect(path.canonicalize().map_err(failed)?, None, settings).await
    }

    async fn connect(
        path: PathBuf,
        lock: Option<Arc<File>>,
        settings: &DatabaseSettings,
    ) -> std::result::Result<Self, OpenError> {
        let Some(name) = path.to_str() else {
            return Err(OpenError::Unusable {
                message: "its path is not UTF-8".to_owned(),
                path,
            });
        };
        // The timeout must come first, because the other pragmas may have to wait for a lock as
        // well.
        let pragmas = format!(
            "PRAGMA busy_timeout = {}; {PRAGMAS}",
            settings.acquire_timeout.as_millis()
        );
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let pool = |role, pragmas, size| {
            Ok::<_, OpenError>(Pool {
                connections: connections(name, pragmas, size)?,
                metrics: Arc::new(PoolMetrics::new(&format!("{stem} {role}"))),
            })
        };
        let pools = Self {
            writer: pool("writer", pragmas.clone(), 1)?,
            readers: pool(
                "readers",
                format!("{pragmas} PRAGMA query_only = ON;"),
                settings.max_connections.max(1) as usize,
            )?,
            acquire_timeout: settings.acquire_timeout,
            disk: Arc::default(),
            _lock: lock,
        };
        let usable = async { pools.writer().await?.ping().await };
        if let Err(error) = usable.await {
            return Err(OpenError::Unusable {
                message: error.to_string(),
                path,
            });
        }
        Ok(pools)
    }

    /// Returns the observed speed of the disk that holds the file.
    pub(super) const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    pub(super) async fn reader(&self) -> Result<Conn> {
        self.get(&self.readers).await
    }

    pub(super) async fn writer(&self) -> Result<Conn> {
        self.get(&self.writer).await
    }

    pub(super) fn report(&self) {
        for pool in [&self.writer, &self.readers] {
            let now = pool.connections.status();
            pool.metrics.set([now.max_size, now.size, now.available, now.waiting]);
        }
    }

    async fn get(&self, pool: &Pool) -> Result<Conn> {
        let object = pool.metrics.get(self.acquire_timeout, pool.connections.get()).await?;
        Ok(Conn::new(Pooled::Sqlite(object), None))
    }
}

/// Creates the file if it is missing, and locks it. Only the owner may read it, because it holds
/// password hashes. SQLite gives its companion files the same mode.
fn create_and_lock(path: &Path) -> std::result::Result<(PathBuf, File), OpenError> {
    let failed = |source| OpenError::File {
        path: path.to_owned(),
        source,
    };
    open_private(path).map_err(failed)?;
    // Resolving links ensures that there is one lock per file, whatever path leads to it.
    let path = path.canonicalize().map_err(failed)?;
    let mut lock_path = path.clone().into_os_string();
    lock_path.push(".lock");
    let lock = open_private(Path::new(&lock_path)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok((path, lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path)),
        Err(TryLockError::Error(source)) => Err(OpenError::File { path, source }),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn connections(path: &str, pragmas: String, size: usize) -> std::result::Result<Connections, OpenError> {
    let mut manager = ManagerConfig::default();
    // Connections to an open file never become stale, so they are reused without a check.
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |path| {
        let (path, pragmas) = (path.to_owned(), pragmas.clone());
        Box::pin(async move {
            let connect = move || {
                let mut conn = SqliteConnection::establish(&path)?;
                conn.batch_execute(&pragmas)
                    .map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok(SyncConnectionWrapper::new(conn))
            };
            tokio::task::spawn_blocking(connect)
                .await
                .unwrap_or_else(|error| Err(ConnectionError::BadConnection(error.to_string())))
        })
    });
    deadpool::Pool::builder(AsyncDieselConnectionManager::new_with_config(path, manager))
        .max_size(size)
        .queue_mode(QUEUE_MODE)
        .build()
        .map_err(|error| OpenError::Pool(error.to_string()))
}
