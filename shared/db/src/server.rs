//! A PostgreSQL server, as a URL names it.

use std::path::PathBuf;

use crate::tls::SslMode;

/// The contents of a server's URL.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) config: tokio_postgres::Config,
    pub(super) mode: SslMode,
    pub(super) root: Option<PathBuf>,
}
