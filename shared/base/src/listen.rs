//! Listening sockets, bound before anything else is made, so that a taken port costs nothing.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::{
    StartError,
    local::{LocalConnections, LocalConnector},
};

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: Option<LocalConnections>,
    address: SocketAddr,
}

/// The address cannot be listened on.
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
    /// Binds the address that the setting named `setting` gives. Port 0 takes a free one.
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

    /// Lets the same process in by memory too, whatever stands between the socket and others.
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

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
