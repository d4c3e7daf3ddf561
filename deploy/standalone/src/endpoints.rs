//! Addresses of the services, and the folder of their data.

use std::{net::SocketAddr, path::PathBuf};

use url::Url;

/// Addresses of both services, and the folder of their data.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) auth_grpc: SocketAddr,
    pub(crate) auth_http: SocketAddr,
    pub(crate) game_grpc: SocketAddr,
    pub(crate) game_http: SocketAddr,
    /// Address at which browsers find the gateway.
    pub(crate) gateway: Url,
    pub(crate) tls: bool,
    pub(crate) data: PathBuf,
    /// Folder to which mails are written. `None` if a mail server takes them.
    pub(crate) mail: Option<PathBuf>,
}
