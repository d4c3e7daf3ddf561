//! Listening sockets. They are bound before anything else is created, so that a port in use is
//! reported early and without side effects.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::{
    StartError,
    local::{LocalConnections, LocalConnector},
};

/// A bound socket that does not accept connections yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: Option<LocalConnections>,
    address: SocketAddr,
}

/// Parses the setting of an address. Host names are not accepted: they could stand for several
/// addresses.
///
/// # Errors
///
/// Fails if the text is anything else.
pub fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:50051 or 0.0.0.0:50051")
}

/// Error for an address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({setting}): {source}")]
pub struct BindError {
    address: SocketAddr,
    setting: &'static str,
    source: std::io::Error,
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::failed(error)
    }
}

impl Listener {
    /// Binds the address given by the setting named `setting`. Port 0 picks a free port.
    pub async fn bind(address: SocketAddr, setting: &'static str) -> Result<Self, BindError> {
        let failed = |source| BindError {
            address,
            setting,
            source,
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self {
            socket,
            local: None,
            address,
        })
    }

    /// Adds in-memory connections from within this process, which bypass everything between the
    /// socket and other clients.
    pub fn with_local(self) -> (Self, LocalConnector) {
        let (connector, connections) = LocalConnector::new();
        let local = Some(connections);
        (Self { local, ..self }, connector)
    }

    /// Returns the socket, and the connections from within the process if [`Self::with_local`] was
    /// called.
    pub fn into_parts(self) -> (TcpListener, Option<LocalConnections>) {
        (self.socket, self.local)
    }

    /// Returns the address of the socket.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
