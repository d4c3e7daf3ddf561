//! Errors of opening a database.

use std::{io, path::PathBuf};

/// Reason why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves the file. Only PostgreSQL can be shared by several processes.
    #[error(
        "the database {path} is in use by another process, which holds the lock on {path}.lock",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// The file, or the lock beside it, could not be created or opened.
    #[error("the database {} cannot be opened: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The file is not a usable database.
    #[error("the database {} cannot be used: {message}", path.display())]
    Unusable {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        message: String,
    },
    /// TLS cannot be set up as the URL asks.
    #[error("cannot set up TLS for the database: {0}")]
    Tls(String),
    /// The pool refused its settings.
    #[error("cannot create the connection pool: {0}")]
    Pool(String),
}
