//! In-memory connections to a gRPC server from within its own process. They need no socket and no
//! TLS, whatever the settings of the port are.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::{Channel, Endpoint};

/// Maximum number of bytes in flight in each direction.
const BUFFER: usize = 64 * 1024;
/// Maximum number of connections that wait to be accepted.
const WAITING: usize = 16;

/// Server side of the connections from within the process.
pub type LocalConnections = mpsc::Receiver<DuplexStream>;

/// Connects to a gRPC server in the same process.
#[derive(Clone, Debug)]
pub struct LocalConnector {
    server: mpsc::Sender<DuplexStream>,
}

impl LocalConnector {
    /// Creates a connector, and the receiver at which its connections arrive.
    pub fn new() -> (Self, LocalConnections) {
        let (server, connections) = mpsc::channel(WAITING);
        (Self { server }, connections)
    }

    /// Returns a channel that connects on first use, and reconnects after the connection has ended.
    pub fn channel(&self) -> Channel {
        let server = self.server.clone();
        let connect = move |_: Uri| {
            let server = server.clone();
            async move {
                let (client, connection) = tokio::io::duplex(BUFFER);
                let taken = server.send(connection).await;
                taken.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                Ok::<_, io::Error>(TokioIo::new(client))
            }
        };
        // HTTP/2 requires an address, but this one is never resolved.
        Endpoint::from_static("http://local").connect_with_connector_lazy(tower::service_fn(connect))
    }
}
