//! What callers are told of the domain's errors: the one place where these become replies.

use std::time::Duration;

use access::{
    authz::{self, Caller},
    token::AUTH_SERVICE,
};
use base::error::ErrorReply;
use proto::auth::v1::ErrorReason;
use tonic::{Code, Status};

use crate::domain::Error;

/// Pause before another try to follow the access feed.
const FEED_RETRY: Duration = Duration::from_secs(5);

/// Permissions that an error names.
const MAX_NAMED: usize = 20;

impl From<Error> for ErrorReply {
    fn from(error: Error) -> Self {
        use ErrorReason as R;
        match error {
            Error::Fields(fields) => fields.into(),
            Error::Database(error) => error.into(),
            Error::AudienceRequired => authz::audience_required(AUTH_SERVICE),
            Error::Internal(text) => {
                tracing::error!(error = text, "internal error");
                Self::internal()
            }
            Error::CredentialsInvalid => Self::new(
                Code::Unauthenticated,
                R::CredentialsInvalid,
                "the identifier or the password is wrong",
            ),
            Error::UserAlreadyExists(fields) => {
                let names: Vec<&str> = fields.iter().map(|taken| taken.field.as_ref()).collect();
                let message = format!("taken by another user: {}", names.join(", "));
                Self::new(Code::AlreadyExists, R::UserAlreadyExists, message).with_fields(fields)
            }
            Error::RegistrationClosed => Self::new(
                Code::FailedPrecondition,
                R::RegistrationClosed,
                "users cannot register themselves here",
            ),
            Error::RefreshTokenInvalid => Self::new(
                Code::Unauthenticated,
                R::RefreshTokenInvalid,
                "the refresh token is not valid",
            ),
            Error::RefreshTokenExpired => Self::new(
                Code::Unauthenticated,
                R::RefreshTokenExpired,
                "the refresh token has expired; log in again",
            ),
            Error::RefreshTokenReused => Self::new(
                Code::Unauthenticated,
                R::RefreshTokenReused,
                "the refresh token had been replaced; somebody else may hold it, so the session was ended; log in again",
            ),
            Error::SessionEnded => Self::new(
                Code::Unauthenticated,
                R::SessionEnded,
                "the session has ended; log in again",
            ),
            Error::RotationOverlap => Self::new(
                Code::Aborted,
                R::RotationOverlap,
                "another call has just rotated this refresh token; use the tokens that it got",
            ),
            Error::RotationRequired => Self::new(
                Code::FailedPrecondition,
                R::RotationRequired,
                "this refresh token was not rotated for too long; call RotateTokens",
            ),
            Error::HashingQueueFull(after) => Self::new(
                Code::ResourceExhausted,
                R::HashingQueueFull,
                "too many logins at once; try again in a moment",
            )
            .with_retry_after(after),
            Error::TooManyAttempts(after) => Self::new(
                Code::ResourceExhausted,
                R::TooManyAttempts,
                "too many attempts; try again later",
            )
            .with_retry_after(after),
            Error::PasswordChangeRequired => Self::new(
                Code::FailedPrecondition,
                R::PasswordChangeRequired,
                "the password was set by an administrator; log in again with a `new_password`",
            ),
            Error::ReauthenticationRequired => Self::new(
                Code::Unauthenticated,
                R::ReauthenticationRequired,
                "a new login or e-mail address requires the current password: send it as `current_password`",
            ),
            Error::CurrentPasswordWrong => Self::new(
                Code::PermissionDenied,
                R::CurrentPasswordWrong,
                "the current password is wrong",
            ),
            Error::SessionNotFound => Self::new(Code::NotFound, R::SessionNotFound, "there is no such session"),
            Error::LastAdmin => Self::new(
                Code::FailedPrecondition,
                R::LastAdmin,
                "this would leave no active superuser",
            ),
            Error::SuperuserRequired => Self::new(
                Code::PermissionDenied,
                R::SuperuserRequired,
                "only a superuser may do this",
            ),
            Error::ResourceNotFound => Self::new(Code::NotFound, R::ResourceNotFound, "there is no such resource"),
            Error::ActionNotFound => Self::new(Code::NotFound, R::ActionNotFound, "there is no such action"),
            Error::PermissionNotFound(name) => Self::new(
                Code::NotFound,
                R::PermissionNotFound,
                format!("there is no permission {name}"),
            )
            .with_resource("permission", name),
            Error::RoleNotFound(name) => Self::new(Code::NotFound, R::RoleNotFound, format!("there is no role {name}"))
                .with_resource("role", name),
            Error::Reserved(text) => Self::new(Code::FailedPrecondition, R::Reserved, text),
            Error::InUse => Self::new(
                Code::FailedPrecondition,
                R::InUse,
                "somebody has it; with force it is taken from them",
            ),
            Error::ServiceAccountNotFound => Self::new(
                Code::NotFound,
                R::ServiceAccountNotFound,
                "there is no such service account",
            ),
            Error::ServiceAccountAlreadyExists => Self::new(
                Code::AlreadyExists,
                R::ServiceAccountAlreadyExists,
                "the `client_id` is taken",
            ),
            Error::ClientCredentialsInvalid => Self::new(
                Code::Unauthenticated,
                R::ClientCredentialsInvalid,
                "the `client_id` or the `client_secret` is wrong",
            ),
            Error::SigningKeyNotFound => {
                Self::new(Code::NotFound, R::SigningKeyNotFound, "there is no such signing key")
            }
            Error::GrantExceedsOwn(permissions) => {
                // Error details travel in headers, which have a limit.
                let more = permissions.len().saturating_sub(MAX_NAMED);
                let mut names = permissions;
                names.truncate(MAX_NAMED);
                names.extend((more > 0).then(|| format!("and {more} more")));
                let names = names.join(", ");
                let message = format!("you do not hold what this gives, takes away or acts on: {names}");
                Self::new(Code::PermissionDenied, R::GrantExceedsOwn, message).with_metadata("permissions", names)
            }
            Error::NameTaken(fields) => {
                let names: Vec<&str> = fields.iter().map(|taken| taken.field.as_ref()).collect();
                let message = format!("taken already: {}", names.join(", "));
                Self::new(Code::AlreadyExists, R::NameTaken, message).with_fields(fields)
            }
            Error::ResourceOwned(resource) => {
                let message = format!("the resource {resource} belongs to another service, or to the administrators");
                Self::new(Code::PermissionDenied, R::ResourceOwned, message).with_metadata("resource", resource)
            }
            Error::TooManyFeedStreams => Self::new(
                Code::ResourceExhausted,
                R::TooManyFeedStreams,
                "this account has too many streams of the access feed open; close one, or raise --max-feed-streams-per-account",
            )
            .with_retry_about(FEED_RETRY),
            Error::FeedBegunAnew => Self::new(
                Code::Unavailable,
                R::FeedBegunAnew,
                "the access feed has begun anew; ask again",
            )
            .with_retry_after(Duration::ZERO),
            Error::Refused(error) => match Caller::Refused(error).principal() {
                Err(reply) => reply,
                Ok(_) => Self::internal(),
            },
            Error::OwnAccount => Self::new(
                Code::FailedPrecondition,
                R::OwnAccount,
                "this is your own account; use AccountService, which asks for your password",
            ),
            Error::UserNotFound => Self::new(Code::NotFound, R::UserNotFound, "there is no such user"),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        ErrorReply::from(error).into()
    }
}
