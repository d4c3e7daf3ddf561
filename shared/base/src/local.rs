//! A way into a gRPC server for its own process: memory instead of a socket, without TLS, whatever
//! the settings of the port are.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::{Channel, Endpoint};

/// Bytes in flight in each direction.
const BUFFER: usize = 64 * 1024;
/// Connections that wait to be taken.
const WAITING: usize = 16;

/// Connections from within the process, on the server's side.
pub type LocalConnections = mpsc::Receiver<DuplexStream>;

/// Connects to a gRPC server in the same process.
#[derive(Clone, Debug)]
pub struct LocalConnector {
    server: mpsc::Sender<DuplexStream>,
}

impl LocalConnector {
    /// Makes a connector, and the end at which its connections arrive.
    pub fn new() -> (Self, LocalConnections) {
        let (server, connections) = mpsc::channel(WAITING);
        (Self { server }, connections)
    }

    /// A channel that connects when it is first used, and again whenever the connection has ended.
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
        // The address is not looked up; HTTP/2 wants one.
        Endpoint::from_static("http://local").connect_with_connector_lazy(tower::service_fn(connect))
    }
}
