//! Database backends.

/// Backend of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// SQLite: a file that one process serves.
    Sqlite,
    /// PostgreSQL: a server that many processes share.
    Postgres,
}

impl Backend {
    /// Returns OpenTelemetry's `db.system.name`.
    pub(super) const fn system_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}
