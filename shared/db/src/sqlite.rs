//! One SQLite file: a writer, readers, and the lock that keeps other processes out.

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

/// WAL lets readers go on beside the writer; FULL loses no acknowledged commit when the power
/// fails.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

/// The connections to one file.
#[derive(Clone)]
pub(crate) struct Pools {
    writer: Pool,
    readers: Pool,
    acquire_timeout: Duration,
    disk: Arc<Disk>,
    /// Locked until the last clone is gone. `None` beside the process that serves the file.
    _lock: Option<Arc<File>>,
}

impl Pools {
    pub(super) async fn open(path: &Path, settings: &DatabaseSettings) -> std::result::Result<Self, OpenError> {
        let (path, lock) = create_and_lock(path)?;
        Self::connect(path, Some(Arc::new(lock)), settings).await
    }

    /// Opens a file that is there, and that another process may serve.
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
        // Before the others, which may have to wait themselves.
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

    /// Returns the state of the disk that the file is on.
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

/// Only the owner may read the file: it holds the hashes of passwords. SQLite gives its companion
/// files the same mode.
fn create_and_lock(path: &Path) -> std::result::Result<(PathBuf, File), OpenError> {
    let failed = |source| OpenError::File {
        path: path.to_owned(),
        source,
    };
    open_private(path).map_err(failed)?;
    // By whatever way the file is reached, its lock is the same.
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
    // An open file does not go away.
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
