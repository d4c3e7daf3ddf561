//! What can go wrong in auth-service, in its own terms. `grpc::error` says what a caller is told of it.

use shared::{db, error::BadField, validate::InvalidFields};

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request cannot be used.
    #[error("invalid fields")]
    Fields(InvalidFields),
    /// No active user has this identifier and password.
    #[error("invalid credentials")]
    CredentialsInvalid,
    /// The login, the e-mail address or both are taken.
    #[error("the user exists")]
    UserAlreadyExists(Vec<BadField>),
    /// Users cannot register themselves here.
    #[error("registration is closed")]
    RegistrationClosed,
    /// Not a refresh token of ours.
    #[error("invalid refresh token")]
    RefreshTokenInvalid,
    /// The refresh token was not rotated in time.
    #[error("expired refresh token")]
    RefreshTokenExpired,
    /// An old refresh token came back; its session has been ended.
    #[error("reused refresh token")]
    RefreshTokenReused,
    /// The session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The token was rotated a moment ago by another call.
    #[error("overlapping rotation")]
    RotationOverlap,
    /// Too long unrotated to give access tokens.
    #[error("rotation required")]
    RotationRequired,
    /// Too many passwords wait to be hashed.
    #[error("the hashing queue is full")]
    HashingQueueFull,
    /// The user is no more.
    #[error("no such user")]
    UserNotFound,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A fault of ours; the text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidFields> for Error {
    fn from(fields: InvalidFields) -> Self {
        Self::Fields(fields)
    }
}
