//! Database errors, sorted by what a caller can do about them.

use std::time::Duration;

use base::error::{ErrorReply, with_causes};
use diesel::result::{ConnectionError, DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::{PoolError as Refused, deadpool::PoolError};
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status};

/// Average delay after which a caller is told to try again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Result of a store function.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the database. Its text is meant for the log. Callers receive the [`ErrorReply`] that
/// it is converted to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is unreachable, does not answer in time, or has no space left. The same call
    /// may succeed later.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The server accepts no writes, because it is a standby or was made read-only. The same call
    /// may succeed after a fail-over.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// A pooler assigned another connection's session to a connection. See
    /// [`PoolerError::NoPreparedStatements`](super::PoolerError).
    #[error("{why}: {0}", why = super::PoolerError::NoPreparedStatements)]
    StatementLost(String),
    /// Another transaction won: there was a deadlock, a serialization failure, or a lock that was
    /// not granted in time. The call may be repeated.
    #[error("the transaction conflicted with another one: {0}")]
    Conflict(String),
    /// Too many writes are waiting. The same call may succeed later.
    #[error("the database is busy: {0}")]
    Overloaded(String),
    /// Another row already has these values.
    #[error("the unique constraint {constraint} is violated")]
    Unique {
        /// Name of the constraint: `<table>_<columns>_key` on SQLite, the constraint's own name on
        /// PostgreSQL.
        constraint: String,
    },
    /// A required row does not exist.
    #[error("a required row is missing")]
    NotFound,
    /// Any other error, which is a fault in this program.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Returns whether the unique constraint on these columns of `table` was violated. Several
    /// column names are joined by `_`.
    ///
    /// On PostgreSQL, the constraint must be named `<table>_<column>_key`, which is the server's
    /// default.
    pub fn is_unique_violation_of(&self, table: &str, column: &str) -> bool {
        matches!(self, Self::Unique { constraint } if *constraint == format!("{table}_{column}_key"))
    }

    /// Returns whether the database is unreachable or currently accepts no writes, so that the same
    /// call may succeed later.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::ReadOnly(_))
    }

    /// Returns whether the server ended a statement that took too long, for example because it
    /// waited for a locked row.
    pub(super) fn is_statement_timeout(&self) -> bool {
        matches!(self, Self::Unavailable(text) if text.contains("statement timeout"))
    }

    /// Returns a copy of the error, for another call that it affects.
    pub(super) fn repeated(&self) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::ReadOnly(text) => Self::ReadOnly(text.clone()),
            Self::StatementLost(text) => Self::StatementLost(text.clone()),
            Self::Conflict(text) => Self::Conflict(text.clone()),
            Self::Overloaded(text) => Self::Overloaded(text.clone()),
            Self::Unique { constraint } => Self::Unique {
                constraint: constraint.clone(),
            },
            Self::NotFound => Self::NotFound,
            Self::Internal(error) => Self::Internal(error.to_string().into()),
        }
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::NotFound => Self::NotFound,
            DieselError::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::UniqueViolation => Self::Unique {
                    constraint: constraint(&*information),
                },
                // The referenced row was deleted in the meantime, since it was looked up before.
                DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ForeignKeyViolation => {
                    Self::Conflict(information.message().to_owned())
                }
                DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => {
                    Self::Unavailable(information.message().to_owned())
                }
                DatabaseErrorKind::ReadOnlyTransaction => Self::ReadOnly(information.message().to_owned()),
                kind => by_message(DieselError::DatabaseError(kind, information)),
            },
            // The causes say what is wrong with the column.
            error @ DieselError::DeserializationError(_) => Self::Internal(with_causes(&error).into()),
            other => Self::Internal(Box::new(other)),
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::CouldntSetupConfiguration(error @ DieselError::DatabaseError(..)) => {
                match Self::from(error) {
                    error @ (Self::ReadOnly(_) | Self::StatementLost(_)) => error,
                    error => Self::Unavailable(error.to_string()),
                }
            }
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(Refused::ConnectionError(error)) => error.into(),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<&Error> for ErrorReply {
    /// Logs the details that the caller does not see.
    fn from(error: &Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::ReadOnly(_) | Error::StatementLost(_) => {
                tracing::warn!(%error, "database unavailable");
                Self::new(
                    Code::Unavailable,
                    ErrorReason::DatabaseUnavailable,
                    "the database cannot be reached; try again in a moment",
                )
                .with_retry_about(RETRY_AFTER)
            }
            Error::Conflict(_) => {
                tracing::debug!(%error, "transaction conflict");
                Self::new(
                    Code::Aborted,
                    ErrorReason::TransactionConflict,
                    "the change conflicted with another one at the same moment; try again",
                )
            }
            Error::Overloaded(_) => {
                tracing::warn!(%error, "refused a write");
                Self::new(
                    Code::ResourceExhausted,
                    ErrorReason::Overloaded,
                    "the server has too many changes to make at the moment; try again in a moment",
                )
                .with_retry_about(RETRY_AFTER)
            }
            Error::Unique { .. } | Error::NotFound | Error::Internal(_) => {
                tracing::error!(%error, "database error");
                Self::internal()
            }
        }
    }
}

impl From<Error> for ErrorReply {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        ErrorReply::from(error).into()
    }
}

/// Returns the name of the violated constraint. PostgreSQL provides the name. SQLite provides a
/// message: `UNIQUE constraint failed: users.login` or `... failed: index 'name'`.
fn constraint(information: &dyn DatabaseErrorInformation) -> String {
    if let Some(name) = information.constraint_name() {
        return name.to_owned();
    }
    let message = information.message();
    let Some((_, columns)) = message.split_once("constraint failed: ") else {
        return message.to_owned();
    };
    if let Some(index) = columns.strip_prefix("index '") {
        return index.trim_end_matches('\'').to_owned();
    }
    let mut name = String::new();
    for column in columns.split(", ") {
        let (table, column) = column.split_once('.').unwrap_or(("", column));
        if name.is_empty() {
            name.push_str(table);
        }
        name.push('_');
        name.push_str(column);
    }
    name + "_key"
}

/// Classifies an error by its message. Neither diesel nor diesel-async exposes the SQLSTATE or
/// SQLite's result code of these errors.
fn by_message(error: DieselError) -> Error {
    const CONFLICT: [&str; 3] = [
        "deadlock detected",
        "canceling statement due to lock timeout",
        "could not obtain lock on row",
    ];
    const UNAVAILABLE: [&str; 17] = [
        "database is locked",
        "database table is locked",
        "database or disk is full",
        "disk I/O error",
        "unable to open database file",
        "No space left on device",
        "canceling statement due to statement timeout",
        "canceling statement due to user request",
        "terminating connection due to",
        "the database system is",
        "remaining connection slots are reserved",
        "too many clients already",
        // Errors of PgBouncer, which have no codes of their own.
        "query_wait_timeout",
        "query timeout",
        "server conn crashed",
        "server login has been failing",
        "server shutting down",
    ];
    let DieselError::DatabaseError(_, information) = &error else {
        return Error::Internal(Box::new(error));
    };
    let message = information.message();
    if CONFLICT.iter().any(|text| message.contains(text)) {
        Error::Conflict(message.to_owned())
    } else if UNAVAILABLE.iter().any(|text| message.contains(text)) {
        Error::Unavailable(message.to_owned())
    } else if message.starts_with("prepared statement ") {
        Error::StatementLost(message.to_owned())
    } else {
        Error::Internal(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::StatusExt as _;

    use super::*;

    fn of_sqlite(kind: DatabaseErrorKind, message: &str) -> Error {
        DieselError::DatabaseError(kind, Box::new(message.to_owned())).into()
    }

    #[test]
    fn a_caller_learns_nothing_internal() {
        let errors = [
            Error::Unavailable("inner".to_owned()),
            Error::ReadOnly("inner".to_owned()),
            Error::Conflict("inner".to_owned()),
            Error::Overloaded("inner".to_owned()),
            Error::Unique {
                constraint: "inner".to_owned(),
            },
            Error::NotFound,
            Error::Internal("inner".into()),
        ];
        let codes = errors.map(|error| {
            let status = Status::from(ErrorReply::from(error));
            assert!(!format!("{status:?}").contains("inner"), "{status:?}");
            (status.code(), status.get_error_details().retry_info().is_some())
        });
        assert_eq!(
            codes,
            [
                (Code::Unavailable, true),
                (Code::Unavailable, true),
                (Code::Aborted, false),
                (Code::ResourceExhausted, true),
                (Code::Internal, false),
                (Code::Internal, false),
                (Code::Internal, false),
            ]
        );
    }

    #[test]
    fn a_sqlite_index_is_reported_by_its_name() {
        let error = of_sqlite(
            DatabaseErrorKind::UniqueViolation,
            "UNIQUE constraint failed: index 'users_email_key'",
        );
        assert!(error.is_unique_violation_of("users", "email"), "{error:?}");
    }

    #[test]
    fn error_messages_decide_whether_a_call_may_be_retried() {
        for message in [
            "database is locked",
            "terminating connection due to administrator command",
        ] {
            let error = of_sqlite(DatabaseErrorKind::Unknown, message);
            assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        }
        let error = of_sqlite(DatabaseErrorKind::Unknown, "no such table: users");
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
        let error = of_sqlite(DatabaseErrorKind::SerializationFailure, "could not serialize access");
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    }
}
