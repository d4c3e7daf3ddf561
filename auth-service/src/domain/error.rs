//! What can go wrong in auth-service, in its own terms. `grpc::error` says what a caller is told of it.

use std::time::Duration;

use access::token::TokenError;
use base::{error::BadField, validate::InvalidFields};

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
    /// Too many passwords wait to be hashed; the caller is to wait for this time.
    #[error("the hashing queue is full")]
    HashingQueueFull(Duration),
    /// The caller's token is good no more.
    #[error("the caller is refused: {0}")]
    Refused(#[from] TokenError),
    /// An administrator's call about the administrator's own account.
    #[error("one's own account")]
    OwnAccount,
    /// The user is no more.
    #[error("no such user")]
    UserNotFound,
    /// Too many attempts; one is let in after this time.
    #[error("too many attempts")]
    TooManyAttempts(Duration),
    /// The password is right, and has to be changed.
    #[error("the password must be changed")]
    PasswordChangeRequired,
    /// The access token is good for more than this service.
    #[error("an access token for auth-service alone is required")]
    AudienceRequired,
    /// The call has to carry the current password.
    #[error("the current password is required")]
    ReauthenticationRequired,
    /// The present password is another one.
    #[error("wrong current password")]
    CurrentPasswordWrong,
    /// The user has no such session.
    #[error("no such session")]
    SessionNotFound,
    /// No active superuser would be left.
    #[error("the last superuser")]
    LastAdmin,
    /// Only a superuser may do this.
    #[error("not a superuser")]
    SuperuserRequired,
    /// There is no such resource.
    #[error("no such resource")]
    ResourceNotFound,
    /// There is no such action.
    #[error("no such action")]
    ActionNotFound,
    /// There is no permission of this name.
    #[error("no such permission")]
    PermissionNotFound(String),
    /// There is no role of this code name.
    #[error("no such role")]
    RoleNotFound(String),
    /// It is built in or declared; the text says what cannot be done.
    #[error("reserved")]
    Reserved(&'static str),
    /// Somebody has it.
    #[error("in use")]
    InUse,
    /// There is no such service account.
    #[error("no such service account")]
    ServiceAccountNotFound,
    /// The client id is taken.
    #[error("the client id is taken")]
    ServiceAccountAlreadyExists,
    /// No active service account has this client id and secret.
    #[error("invalid client credentials")]
    ClientCredentialsInvalid,
    /// There is no such signing key.
    #[error("no such signing key")]
    SigningKeyNotFound,
    /// The actor lacks these permissions, sorted: the call gives them or takes them away, or its target holds them.
    #[error("the actor lacks permissions of the target")]
    GrantExceedsOwn(Vec<String>),
    /// A name or code name is taken.
    #[error("the name is taken")]
    NameTaken(Vec<BadField>),
    /// Another service has declared this resource.
    #[error("another service's resource")]
    ResourceOwned(String),
    /// The account has as many streams of the access feed open as it may.
    #[error("too many streams of the access feed")]
    TooManyFeedStreams,
    /// The access feed has begun a new life.
    #[error("the access feed has begun anew")]
    FeedBegunAnew,
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
