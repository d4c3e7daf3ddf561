//! Why a database is not migrated.

use super::{Error, PoolerError};

/// Why the migrations could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database has seen a newer version of this program. Nothing was changed.
    #[error(
        "the database was made by a newer version of this program (schema {database}, this program knows up to \
        {program})"
    )]
    Newer {
        /// The newest migration that was applied.
        database: String,
        /// The newest migration that this program has.
        program: String,
    },
    /// The database lacks migrations, and the settings forbid to apply them.
    #[error("the database lacks the migrations {0}; apply them with the command `migrate`")]
    Pending(String),
    /// The database is another service's. Nothing was changed.
    #[error(
        "the database belongs to another service: the migration {applied} was applied to it, which this \
         program does not know, and {missing} was not; each service needs a database of its own (--database-url)"
    )]
    Foreign {
        /// A migration that was applied and that this program does not have.
        applied: String,
        /// A migration of this program that was not applied.
        missing: String,
    },
    /// The database cannot hold every text.
    #[error(
        "the encoding of the database is {0}, and must be UTF8: make one with CREATE DATABASE ... ENCODING 'UTF8' \
        TEMPLATE template0"
    )]
    Encoding(String),
    /// The database is reached through a pooler that does not fit.
    #[error(transparent)]
    Pooler(#[from] PoolerError),
    /// A migration failed, and was rolled back.
    #[error("a migration failed: {0}")]
    Failed(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}
