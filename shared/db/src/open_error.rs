//! Why a database cannot be opened.

use std::{io, path::PathBuf};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves the file. Several processes need PostgreSQL.
    #[error(
        "the database {path} is in use by another process, which holds the lock on {path}.lock",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// The file, or the lock beside it, cannot be made or opened.
    #[error("the database {} cannot be opened: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a database that can be used.
    #[error("the database {} cannot be used: {message}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// TLS cannot be set up as the URL asks.
    #[error("cannot set up TLS for the database: {0}")]
    Tls(String),
    /// The pool refused its settings.
    #[error("cannot create the connection pool: {0}")]
    Pool(String),
}
