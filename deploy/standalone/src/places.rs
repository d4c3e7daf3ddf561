//! Where everything is served and stored.

use std::{net::SocketAddr, path::PathBuf};

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) auth_grpc: SocketAddr,
    pub(crate) auth_http: SocketAddr,
    pub(crate) game_grpc: SocketAddr,
    pub(crate) game_http: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) data: PathBuf,
}
