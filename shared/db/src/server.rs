//! A PostgreSQL server, as a URL names it.

use std::path::PathBuf;

use crate::tls::SslMode;

/// What the URL of a server says.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) config: tokio_postgres::Config,
    pub(super) mode: SslMode,
    pub(super) root: Option<PathBuf>,
}
