//! A PostgreSQL server, as described by a URL.

use std::path::PathBuf;

use crate::tls::SslMode;

/// Contents of a server's URL.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) config: tokio_postgres::Config,
    pub(super) mode: SslMode,
    pub(super) root: Option<PathBuf>,
}
