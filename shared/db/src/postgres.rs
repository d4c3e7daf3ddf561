//! Connections to PostgreSQL.

use std::{sync::Arc, time::Duration};

use diesel::ConnectionError;
use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, PoolError as Refused, RecyclingMethod,
        deadpool::{self, Hook, HookError, PoolError},
    },
};
use tokio_postgres::config::SslMode as WireSslMode;

use super::{
    Conn, DatabaseSettings, Error, OpenError, Result,
    conn::{Pooled, bounded},
    connector::{self, Connector},
    fail_over::Distrust,
    pool::{PoolMetrics, QUEUE_MODE},
    server::Server,
    tls::{self, SslMode},
};

/// Extra time that this side waits beyond the server's own limit, so that the server's error
/// arrives first.
const GRACE: Duration = Duration::from_secs(1);

/// Limit on an idle transaction, so that a stuck owner does not hold its locks for ever.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Keep-alive settings. A peer that vanished without closing the connection is noticed within a
/// minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Pause before another attempt if the server refused a connection because it is at its limit.
const LIMIT_PAUSE: Duration = Duration::from_millis(50);

/// A pool of connections to one server, or to the servers of one cluster.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: deadpool::Pool<AsyncPgConnection>,
    metrics: Arc<PoolMetrics>,
    connector: Arc<Connector>,
    /// Connector to the server itself, if `connector` leads to a pooler.
    direct: Option<Arc<Connector>>,
    /// Statements that set the time limits of a transaction. Needed only if sessions are shared and
    /// therefore cannot keep any.
    local_limits: Option<Arc<str>>,
    distrust: Arc<Distrust>,
    acquire_timeout: Duration,
    statement_timeout: Duration,
}

impl Pool {
    /// Creates a pool of connections to `server`. If `direct` is given, `server` is a pooler, and
    /// `direct` the server behind it.
    pub(super) fn new(
        server: Server,
        direct: Option<Server>,
        settings: &DatabaseSettings,
    ) -> std::result::Result<Self, OpenError> {
        let name = server.config.get_dbname().unwrap_or("postgres").to_owned();
        let connector = Arc::new(server.connector(settings)?);
        let direct = direct.map(|server| server.connector(settings)).transpose()?;
        let distrust = Arc::<Distrust>::default();

        let set = |scope: &str| {
            format!(
                "SET {scope} statement_timeout = {}; SET {scope} idle_in_transaction_session_timeout = {}",
                settings.statement_timeout.as_millis(),
                IDLE_IN_TRANSACTION_TIMEOUT.as_millis(),
            )
        };
        // A pooler may hand the session, including its settings, to another client.
        let (session, local_limits) = match direct {
            None => (Some(set("SESSION")), None),
            Some(_) => (None, Some(Arc::from(set("LOCAL")))),
        };
        let mut manager = ManagerConfig::default();
        // A closed connection is noticed without a query. A check would hang on a hanging
        // connection, just as the query itself would.
        manager.recycling_method = RecyclingMethod::Fast;
        manager.custom_setup = Box::new({
            let connector = Arc::clone(&connector);
            move |_| {
                let (connector, session) = (Arc::clone(&connector), session.clone());
                Box::pin(async move {
                    let mut conn = connector.connect().await?;
                    if let Some(session) = session {
                        conn.batch_execute(&session)
                            .await
                            .map_err(ConnectionError::CouldntSetupConfiguration)?;
                    }
                    Ok(conn)
                })
            }
        });
        // The manager gets no URL, because the connector makes the connections.
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), manager);
        let connections = deadpool::Pool::builder(manager)
            .max_size(settings.max_connections.max(1) as usize)
            .queue_mode(QUEUE_MODE)
            .pre_recycle(Hook::sync_fn({
                let distrust = Arc::clone(&distrust);
                move |_, connection| {
                    if distrust.includes(connection.created) {
                        return Err(HookError::message("its server takes no writes"));
                    }
                    Ok(())
                }
            }))
            .build()
            .map_err(|error| OpenError::Pool(error.to_string()))?;
        Ok(Self {
            connections,
            metrics: Arc::new(PoolMetrics::new(&name)),
            connector,
            direct: direct.map(Arc::new),
            local_limits,
            distrust,
            acquire_timeout: settings.acquire_timeout,
            statement_timeout: settings.statement_timeout,
        })
    }

    pub(super) fn report(&self) {
        let now = self.connections.status();
        self.metrics.set([now.max_size, now.size, now.available, now.waiting]);
    }

    pub(super) async fn get(&self) -> Result<Conn> {
        let object = async {
            loop {
                match self.connections.get().await {
                    Err(PoolError::Backend(Refused::ConnectionError(error))) if connector::is_at_limit(&error) => {
                        tracing::debug!(%error, "waiting for a connection");
                    }
                    result => break result,
                }
                // In the meantime, another call may return its connection, or the server may accept
                // one more.
                tokio::time::sleep(LIMIT_PAUSE).await;
            }
        };
        let object = self.metrics.get(self.acquire_timeout, object).await;
        let object = object.map_err(|error| {
            if self.is_at_limit() {
                connector::at_limit()
            } else {
                error
            }
        })?;
        let conn = Conn::new(Pooled::Postgres(Box::new(object)), Some(self.statement_timeout + GRACE));
        Ok(conn
            .reporting_to(&self.distrust)
            .with_local_limits(self.local_limits.as_ref()))
    }

    /// Opens a connection outside the pool with its own session and without limits on its
    /// statements.
    pub(super) async fn dedicated(&self) -> Result<AsyncPgConnection> {
        let mut conn = self.direct().await?;
        self.set_unlimited(&mut conn).await?;
        Ok(conn)
    }

    /// Opens a connection outside the pool with its own session and with the limits of its role.
    pub(super) async fn direct(&self) -> Result<AsyncPgConnection> {
        self.beside(self.direct.as_ref().unwrap_or(&self.connector)).await
    }

    /// Removes the limits that the role imposes on the session.
    pub(super) async fn set_unlimited(&self, conn: &mut AsyncPgConnection) -> Result<()> {
        let set = conn.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0");
        Ok(bounded(Some(self.acquire_timeout), set).await?)
    }

    /// Opens a connection outside the pool, in the same way as the pool does.
    pub(super) async fn extra(&self) -> Result<AsyncPgConnection> {
        self.beside(&self.connector).await
    }

    async fn beside(&self, connector: &Connector) -> Result<AsyncPgConnection> {
        let made = async {
            loop {
                match connector.connect().await {
                    Err(error) if connector::is_at_limit(&error) => tokio::time::sleep(LIMIT_PAUSE).await,
                    result => break result,
                }
            }
        };
        let conn = tokio::time::timeout(self.acquire_timeout, made).await.map_err(|_| {
            if connector.is_refused() {
                connector::at_limit()
            } else {
                Error::Unavailable("a connection could not be made in time".to_owned())
            }
        })??;
        Ok(conn)
    }

    /// Returns whether the server is at its connection limit.
    pub(super) fn is_at_limit(&self) -> bool {
        self.connector.is_refused()
    }

    /// Returns whether there is a direct way to the server, past a pooler.
    pub(super) const fn has_direct(&self) -> bool {
        self.direct.is_some()
    }

    pub(super) const fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }
}

impl Server {
    /// Creates a connector to this server.
    fn connector(self, settings: &DatabaseSettings) -> std::result::Result<Connector, OpenError> {
        let tls = tls::connector(self.mode, self.root.as_deref()).map_err(OpenError::Tls)?;
        let mut config = self.config;
        config
            .ssl_mode(match self.mode {
                SslMode::Disable => WireSslMode::Disable,
                SslMode::Prefer => WireSslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireSslMode::Require,
            })
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(settings.statement_timeout + GRACE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(settings.acquire_timeout);
        }
        Ok(Connector::new(&config, tls))
    }
}
