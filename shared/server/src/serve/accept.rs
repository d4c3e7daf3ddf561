//! Accepting of the connections of a port.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{descriptors::is_reserved, local::LocalConnections, running::Running};
use http::{Request, Response};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::Service;

use super::{
    activity::OPEN_TIMEOUT,
    answer::ResponseBody,
    connection::{self, Connection, Rules},
    limits::{Admitted, ConnectionLimits},
    protocol::Protocol,
    unread::UnreadBudget,
};

/// Pause while the system has no descriptor or memory for another connection.
const PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two warnings about that.
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// Descriptors that the connections of a port leave free. Those of a gRPC port leave more, for the
/// HTTP ports, by which operators see what is going on. The rest is for files and databases.
const GRPC_RESERVE: u64 = 64;
const HTTP_RESERVE: u64 = 16;

/// Port to serve.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) protocol: Protocol,
    pub(crate) limits: ConnectionLimits,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Longest time that a connection may be without a call.
    pub(crate) idle: Duration,
}

/// Connections of a port that are being served.
struct Served<S> {
    service: S,
    rules: Rules,
    tasks: TaskTracker,
}

impl Port {
    /// Serves the connections of this socket until the stop token is cancelled. Then waits until
    /// their calls have ended, or until the grace period is over.
    pub(crate) async fn serve<S>(self, socket: TcpListener, service: S, running: Running) -> Result<(), Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let served = Served::new(service, self.protocol, self.idle, &running);
        let stop = running.stop_token().clone();
        let reserve = match self.protocol {
            Protocol::Grpc => GRPC_RESERVE,
            Protocol::Http => HTTP_RESERVE,
        };
        let tls = self.tls.map(TlsAcceptor::from);
        let accept = async {
            let mut warned = None::<tokio::time::Instant>;
            loop {
                let (socket, peer) = match socket.accept().await {
                    Ok(accepted) => accepted,
                    // The client left before the connection was accepted.
                    Err(error) if is_about_the_client(&error) => continue,
                    Err(error) => {
                        if warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                            tracing::warn!(%error, "cannot accept connections; keeps trying");
                            warned = Some(tokio::time::Instant::now());
                        }
                        sleep(PAUSE).await;
                        continue;
                    }
                };
                if is_reserved(&socket, reserve) {
                    self.limits.refused("descriptors");
                    continue;
                }
                let Some(admitted) = self.limits.admit(peer) else {
                    continue;
                };
                let _ = socket.set_nodelay(true);
                let connection = Connection {
                    client: self.limits.client_of(peer),
                    ..Connection::new(Some(peer))
                };
                served.spawn(connection, socket, tls.clone(), admitted);
            }
        };
        stop.run_until_cancelled(accept).await;
        // Accept no new connections. The system refuses those that still wait to be accepted.
        drop(socket);
        served.drain(running.drain()).await;
        Ok(())
    }
}

/// Serves connections from within the process. They need no limits.
pub(crate) async fn serve_local<S>(
    mut connections: LocalConnections,
    service: S,
    idle: Duration,
    running: Running,
) -> Result<(), Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let served = Served::new(service, Protocol::Grpc, idle, &running);
    let accept = async {
        while let Some(socket) = connections.recv().await {
            let served_one = served.one(Connection::new(None), socket);
            served.tasks.spawn(served_one);
        }
    };
    running.stop_token().run_until_cancelled(accept).await;
    drop(connections);
    served.drain(running.drain()).await;
    Ok(())
}

impl<S> Served<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    fn new(service: S, protocol: Protocol, idle: Duration, running: &Running) -> Self {
        ResponseBody::describe_metrics();
        Self {
            service,
            rules: Rules {
                protocol,
                idle,
                unread: UnreadBudget::default(),
                stop: running.stop_token().clone(),
                kill: CancellationToken::new(),
            },
            tasks: TaskTracker::new(),
        }
    }

    fn spawn(&self, connection: Connection, socket: TcpStream, tls: Option<TlsAcceptor>, admitted: Admitted) {
        let (service, rules) = (self.service.clone(), self.rules.clone());
        self.tasks.spawn(async move {
            let _admitted = admitted;
            let Some(tls) = tls else {
                return connection::serve(socket, connection, service, rules).await;
            };
            // Boxed, so that a connection without TLS does not need the memory of one with TLS.
            Box::pin(async move {
                let handshake = timeout(OPEN_TIMEOUT, tls.accept(socket));
                match rules.stop.run_until_cancelled(handshake).await {
                    Some(Ok(Ok(socket))) => connection::serve(socket, connection, service, rules).await,
                    Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
                    Some(Err(_elapsed)) => tracing::debug!("a TLS handshake took too long"),
                    None => {}
                }
            })
            .await;
        });
    }

    fn one<T>(&self, connection: Connection, socket: T) -> impl Future<Output = ()> + Send + use<T, S>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        connection::serve(socket, connection, self.service.clone(), self.rules.clone())
    }

    /// Waits until the connections have ended, after the stop token has asked them to. Closes the
    /// rest after `patience`.
    async fn drain(self, patience: Duration) {
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("the grace period ended while calls were still in flight");
            self.rules.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Connection {
    pub(super) fn new(peer: Option<std::net::SocketAddr>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            peer,
            client: None,
        }
    }
}

/// Returns whether an error of `accept` concerns one connection rather than this machine (see
/// accept(2)).
fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
