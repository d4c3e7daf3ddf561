//! The two databases.

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A file that one process serves.
    Sqlite,
    /// A server that many processes share.
    Postgres,
}

impl Backend {
    /// `db.system.name` of OpenTelemetry.
    pub(super) const fn system_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}
