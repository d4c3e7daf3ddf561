//! Errors of migrating a database.

use super::{Error, PoolerError};

/// Reason why the migrations could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database was migrated by a newer version of this program. Nothing was changed.
    #[error(
        "the database was made by a newer version of this program (schema {database}, this program knows up to \
        {program})"
    )]
    Newer {
        /// Version of the newest migration that was applied.
        database: String,
        /// Version of the newest migration that this program has.
        program: String,
    },
    /// The database lacks migrations, and the settings forbid applying them.
    #[error("the database lacks the migrations {0}; apply them with the command `migrate`")]
    Pending(String),
    /// The database belongs to another service. Nothing was changed.
    #[error(
        "the database belongs to another service: the migration {applied} was applied to it, which this \
         program does not know, and {missing} was not; each service needs a database of its own (--database-url)"
    )]
    Foreign {
        /// Version of a migration that was applied and that this program does not have.
        applied: String,
        /// Version of a migration of this program that was not applied.
        missing: String,
    },
    /// The database is not encoded in UTF-8, so it cannot store every text.
    #[error(
        "the encoding of the database is {0}, and must be UTF8: make one with CREATE DATABASE ... ENCODING 'UTF8' \
        TEMPLATE template0"
    )]
    Encoding(String),
    /// The database is reached through an unsuitable pooler.
    #[error(transparent)]
    Pooler(#[from] PoolerError),
    /// A migration failed, and was rolled back.
    #[error("a migration failed: {0}")]
    Failed(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}
