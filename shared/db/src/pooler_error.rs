//! Errors of the pooler checks.

/// Reason why a pooler is unsuitable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolerError {
    /// The URL leads to a pooler in transaction mode, and no direct URL is given.
    #[error(
        "the database is reached through a pooler that shares connections between transactions: \
         name the server itself with --database-direct-url as well, or use session mode"
    )]
    NoDirectUrl,
    /// The direct URL leads to a pooler in transaction mode.
    #[error(
        "--database-direct-url leads to a pooler that shares connections between transactions: \
         it must name the server itself, or a pooler in session mode"
    )]
    DirectIsPooled,
    /// The two URLs lead to different databases.
    #[error("--database-direct-url and --database-url lead to different databases")]
    OtherDatabase,
    /// The two URLs name different users.
    #[error(
        "--database-direct-url logs in as the user {direct}, and --database-url as {pooled}: it must be the same user"
    )]
    OtherUser {
        /// User of the URL that leads to the pooler.
        pooled: String,
        /// User of the direct URL.
        direct: String,
    },
    /// The pooler loses prepared statements.
    #[error(
        "the pooler does not carry prepared statements over from one connection to another: \
         PgBouncer must be 1.21 or newer, with max_prepared_statements above 0 (the default since 1.24), or \
         in session mode"
    )]
    NoPreparedStatements,
}
