//! The addresses at which everything is served, and the folder in which it is stored.

use std::{net::SocketAddr, path::PathBuf};

/// The addresses and folders of everything.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) auth_grpc: SocketAddr,
    pub(crate) auth_http: SocketAddr,
    pub(crate) game_grpc: SocketAddr,
    pub(crate) game_http: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) data: PathBuf,
}
