//! Connections to a PostgreSQL server, or to the one server of a cluster that accepts writes.

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use diesel::{
    ConnectionError, ConnectionResult,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::AsyncPgConnection;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::{Mutex, MutexGuard};
use tokio_postgres::{Config, NoTls, config::Host, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;

/// Head start of one server before the next one is tried as well. A host that does not respond must
/// not use up the time limit of a caller or of a readiness probe.
const HEAD_START: Duration = Duration::from_millis(250);

/// Pause between two attempts while the server is at its connection limit.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(50);
/// Time without a refusal after which a server counts as below its connection limit again.
const RECOVERED_AFTER: Duration = Duration::from_secs(1);

/// Message for a server that is at its connection limit.
const AT_LIMIT: &str = "the server takes no more connections";

/// Message for a server that does not accept writes.
pub(super) const STANDBY: &str = "the server is a standby, or was made read-only";

/// Connector to the servers of one URL.
pub(super) struct Connector {
    /// Settings of each host in the URL.
    servers: Vec<Config>,
    /// Index of the server of the last successful connection, which is tried first.
    preferred: AtomicUsize,
    /// Spacing of the attempts while the server is at its limit.
    pace: Mutex<Option<Pace>>,
    tls: Option<MakeRustlsConnect>,
}

/// Spacing of attempts while the server is at its limit. Every refused attempt costs the server a
/// process.
struct Pace {
    next: Instant,
    refused: Instant,
}

impl Connector {
    pub(super) fn new(config: &Config, tls: Option<MakeRustlsConnect>) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        Self {
            servers: if count == 1 {
                vec![config.clone()]
            } else {
                (0..count).map(|index| single(config, index)).collect()
            },
            preferred: AtomicUsize::new(0),
            pace: Mutex::default(),
            tls,
        }
    }

    /// Connects to the first server that accepts. While the server is at its limit, most attempts
    /// are refused right here without contacting it.
    pub(super) async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        if !self.is_due() {
            return Err(ConnectionError::BadConnection(AT_LIMIT.to_owned()));
        }
        let made = self.connect_to_any().await;
        if let Err(error) = &made
            && is_at_limit(error)
        {
            let now = Instant::now();
            let before = self.pace().replace(Pace {
                next: now + ATTEMPT_INTERVAL,
                refused: now,
            });
            if before.is_none() {
                tracing::warn!(error = message_of(error), "waiting for a connection");
            }
        }
        made
    }

    /// Returns whether an attempt may be made now.
    fn is_due(&self) -> bool {
        let (now, mut pace) = (Instant::now(), self.pace());
        match &mut *pace {
            None => true,
            Some(at_limit) if now.duration_since(at_limit.refused) >= RECOVERED_AFTER => {
                *pace = None;
                true
            }
            Some(at_limit) if now >= at_limit.next => {
                at_limit.next = now + ATTEMPT_INTERVAL;
                true
            }
            Some(_) => false,
        }
    }

    /// Returns whether the server has recently refused a connection because it was at its limit.
    pub(super) fn is_refused(&self) -> bool {
        let pace = self.pace();
        pace.as_ref()
            .is_some_and(|pace| pace.refused.elapsed() < RECOVERED_AFTER)
    }

    fn pace(&self) -> MutexGuard<'_, Option<Pace>> {
        // A panic cannot leave the value half updated, so nothing has to be repaired.
        self.pace.lock()
    }

    /// Connects to the first server that accepts. Each server gets a head start before the next one
    /// is tried.
    async fn connect_to_any(&self) -> ConnectionResult<AsyncPgConnection> {
        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut begun = 0;
        let mut attempts = FuturesUnordered::new();
        let mut refusals = Vec::new();
        loop {
            if begun < count {
                let index = (first + begun) % count;
                attempts.push(async move { (index, self.connect_to(&self.servers[index]).await) });
                begun += 1;
            }
            tokio::select! {
                Some((index, result)) = attempts.next() => match result {
                    Ok(conn) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(conn);
                    }
                    Err(error) => refusals.push((index, error)),
                },
                () = tokio::time::sleep(HEAD_START), if begun < count => {}
                else => return Err(self.refused(refusals)),
            }
        }
    }

    async fn connect_to(&self, server: &Config) -> ConnectionResult<AsyncPgConnection> {
        if let Some(tls) = &self.tls {
            let (client, connection) = server.connect(tls.clone()).await.map_err(refused)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        } else {
            let (client, connection) = server.connect(NoTls).await.map_err(refused)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
    }

    /// Returns the error of the server that came closest to accepting, followed by the messages of
    /// the others.
    fn refused(&self, mut refusals: Vec<(usize, ConnectionError)>) -> ConnectionError {
        // A primary at its limit is more informative than a standby, and a standby more than a host
        // that is down.
        let rank = |error: &ConnectionError| match error {
            error if is_at_limit(error) => 0,
            ConnectionError::CouldntSetupConfiguration(_) => 1,
            _ => 2,
        };
        refusals.sort_by_key(|(_, error)| rank(error));
        let mut refusals = refusals.into_iter();
        let Some((index, error)) = refusals.next() else {
            return ConnectionError::BadConnection("the URL names no server".to_owned());
        };
        if self.servers.len() == 1 {
            return error;
        }
        let mut text = format!("{} ({})", message_of(&error), self.name(index));
        for (index, error) in refusals {
            text = format!("{text}; {} ({})", message_of(&error), self.name(index));
        }
        match error {
            ConnectionError::CouldntSetupConfiguration(DieselError::DatabaseError(kind, _)) => {
                ConnectionError::CouldntSetupConfiguration(DieselError::DatabaseError(kind, Box::new(text)))
            }
            _ => ConnectionError::BadConnection(text),
        }
    }

    fn name(&self, index: usize) -> String {
        let server = &self.servers[index];
        let port = server.get_ports().first().copied().unwrap_or(5432);
        match (server.get_hosts().first(), server.get_hostaddrs().first()) {
            (Some(Host::Tcp(name)), _) => format!("{name}:{port}"),
            (Some(Host::Unix(path)), _) => format!("{}:{port}", path.display()),
            (None, Some(address)) => format!("{address}:{port}"),
            (None, None) => String::new(),
        }
    }
}

/// Returns the error for a call that found no connection in time because the server was at its
/// limit.
pub(super) fn at_limit() -> Error {
    Error::Unavailable(AT_LIMIT.to_owned())
}

/// Returns whether the server refused because it was at its connection limit.
pub(super) fn is_at_limit(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::BadConnection(text) if text.starts_with(AT_LIMIT))
}

/// Returns the same settings for just one of several servers.
fn single(config: &Config, index: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(index) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(index) {
        one.hostaddr(*address);
    }
    if let Some(port) = config.get_ports().get(index).or_else(|| config.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

fn message_of(error: &ConnectionError) -> String {
    match error {
        ConnectionError::CouldntSetupConfiguration(DieselError::DatabaseError(_, information)) => {
            information.message().to_owned()
        }
        ConnectionError::BadConnection(text) => text.clone(),
        error => error.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
fn refused(error: tokio_postgres::Error) -> ConnectionError {
    let mut text = error.to_string();
    let mut source = error.source();
    let mut is_standby = false;
    while let Some(cause) = source {
        let words = cause.to_string();
        // tokio-postgres reports an unmet `target_session_attrs` only by this message.
        is_standby |= words == "database does not allow writes";
        text.push_str(": ");
        text.push_str(&words);
        source = cause.source();
    }
    if is_standby {
        let standby = Box::new(STANDBY.to_owned());
        let error = DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, standby);
        return ConnectionError::CouldntSetupConfiguration(error);
    }
    // PgBouncer has no error code of its own for `max_client_conn`.
    let is_at_limit =
        error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) || text.contains("no more connections allowed");
    if is_at_limit {
        text = format!("{AT_LIMIT}: {text}");
    }
    ConnectionError::BadConnection(text)
}
