//! Converts errors of the domain into replies for callers.

use std::time::Duration;

use access::{
    authz::{self, Caller},
    policy::StepUp,
    token::{AUTH_SERVICE, Acr},
};
use base::{error::ErrorReply, validate::InvalidFields};
use proto::auth::v1::ErrorReason;
use tonic::{Code, Status};

use crate::domain::Error;

/// Time after which a caller should try again to follow the access feed.
const FEED_RETRY: Duration = Duration::from_secs(5);

/// Maximum number of permissions that an error lists.
const MAX_NAMED: usize = 20;

impl From<Error> for ErrorReply {
    #[expect(clippy::too_many_lines, reason = "a table of every error")]
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
                "the login, e-mail address, password or guest credential is wrong",
            ),
            Error::UserAlreadyExists(fields) => {
                let names: Vec<&str> = fields.iter().map(|taken| taken.field.as_ref()).collect();
                let message = format!("another user already has this {}", names.join(" and "));
                Self::new(Code::AlreadyExists, R::UserAlreadyExists, message).with_fields(fields)
            }
            Error::RegistrationClosed => Self::new(
                Code::FailedPrecondition,
                R::RegistrationClosed,
                "registration is closed in this deployment; ask an administrator for an account",
            ),
            Error::RefreshTokenInvalid => Self::new(
                Code::Unauthenticated,
                R::RefreshTokenInvalid,
                "the refresh token is not valid; log in again",
            ),
            Error::RefreshTokenExpired => Self::new(
                Code::Unauthenticated,
                R::RefreshTokenExpired,
                "the refresh token has expired; log in again",
            ),
            Error::RefreshTokenReused => Self::new(
                Code::Unauthenticated,
                R::RefreshTokenReused,
                "the refresh token had already been used; someone else may have a copy, so the session was ended; log \
                in again",
            ),
            Error::SessionEnded => Self::new(
                Code::Unauthenticated,
                R::SessionEnded,
                "the session has ended; log in again",
            ),
            Error::RotationOverlap => Self::new(
                Code::Aborted,
                R::RotationOverlap,
                "another call has just rotated this refresh token; use the tokens that it received",
            ),
            Error::RotationRequired => Self::new(
                Code::FailedPrecondition,
                R::RotationRequired,
                "the refresh token must be rotated before it can issue more access tokens; call RotateTokens",
            ),
            Error::HashingQueueFull(after) => Self::new(
                Code::ResourceExhausted,
                R::HashingQueueFull,
                "the server is busy with other logins; try again in a moment",
            )
            .with_retry_after(after),
            Error::TooManyAttempts(after) => Self::new(
                Code::ResourceExhausted,
                R::TooManyAttempts,
                "too many attempts; wait before you try again",
            )
            .with_retry_after(after),
            Error::PasswordChangeRequired => Self::new(
                Code::FailedPrecondition,
                R::PasswordChangeRequired,
                "the password is temporary; log in again with a `new_password` and a `new_password_confirmation`",
            ),
            Error::PasswordExpired => Self::new(
                Code::FailedPrecondition,
                R::PasswordExpired,
                "the temporary password has expired; ask an administrator for a new one, or reset it by mail",
            ),
            Error::UserDeactivated => Self::new(
                Code::FailedPrecondition,
                R::UserDeactivated,
                "the user is deactivated; reactivate them first",
            ),
            Error::TooManyMails(after) => Self::new(
                Code::ResourceExhausted,
                R::TooManyMails,
                "the limit on mails to this e-mail address is reached; try again later",
            )
            .with_retry_after(after),
            Error::ReauthenticationRequired => Self::new(
                Code::Unauthenticated,
                R::ReauthenticationRequired,
                "a new login or e-mail address requires the current password: send it as `current_password`",
            ),
            Error::CurrentPasswordWrong => Self::new(
                Code::PermissionDenied,
                R::CurrentPasswordWrong,
                "the current password or guest credential is wrong",
            ),
            Error::SessionNotFound => Self::new(
                Code::NotFound,
                R::SessionNotFound,
                "the user has no session with this id",
            ),
            Error::LastAdmin => Self::new(
                Code::FailedPrecondition,
                R::LastAdmin,
                "this is the last active administrator with the role superuser; give the role to another user first",
            ),
            Error::SuperuserRequired => Self::new(
                Code::PermissionDenied,
                R::SuperuserRequired,
                "only a user with the role superuser can do this",
            ),
            Error::ResourceNotFound(name) => not_found(R::ResourceNotFound, "resource", name),
            Error::ActionNotFound(name) => not_found(R::ActionNotFound, "action", name),
            Error::PermissionNotFound(name) => not_found(R::PermissionNotFound, "permission", name),
            Error::RoleNotFound(name) => not_found(R::RoleNotFound, "role", name),
            Error::Reserved(text) => Self::new(Code::FailedPrecondition, R::Reserved, text),
            Error::InUse => Self::new(
                Code::FailedPrecondition,
                R::InUse,
                "users or roles still hold it or one of its permissions; set `force` to delete it anyway",
            ),
            Error::ServiceAccountNotFound => Self::new(
                Code::NotFound,
                R::ServiceAccountNotFound,
                "no service account has this `client_id`",
            ),
            Error::ServiceAccountAlreadyExists => Self::new(
                Code::AlreadyExists,
                R::ServiceAccountAlreadyExists,
                "another service account already has this `client_id`",
            ),
            Error::ClientCredentialsInvalid => Self::new(
                Code::Unauthenticated,
                R::ClientCredentialsInvalid,
                "the `client_id` or the `client_secret` is wrong",
            ),
            Error::SigningKeyNotFound => {
                Self::new(Code::NotFound, R::SigningKeyNotFound, "no signing key has this `kid`")
            }
            Error::GrantExceedsOwn(permissions) => {
                // Error details travel in headers, which have a limit.
                let more = permissions.len().saturating_sub(MAX_NAMED);
                let mut names = permissions;
                names.truncate(MAX_NAMED);
                names.extend((more > 0).then(|| format!("and {more} more")));
                let names = names.join(", ");
                let message = format!("this call involves permissions that you do not hold: {names}");
                Self::new(Code::PermissionDenied, R::GrantExceedsOwn, message).with_metadata("permissions", names)
            }
            Error::NameTaken(fields) => {
                let names: Vec<&str> = fields.iter().map(|taken| taken.field.as_ref()).collect();
                let message = format!("already taken: {}", names.join(", "));
                Self::new(Code::AlreadyExists, R::NameTaken, message).with_fields(fields)
            }
            Error::ResourceOwned(resource) => {
                let message =
                    format!("the resource {resource} was declared by another service or created by an administrator");
                Self::new(Code::PermissionDenied, R::ResourceOwned, message).with_metadata("resource", resource)
            }
            Error::TooManyFeedStreams => Self::new(
                Code::ResourceExhausted,
                R::TooManyFeedStreams,
                "this account has too many access feed streams open; close one, or raise \
                --max-feed-streams-per-account",
            )
            .with_retry_about(FEED_RETRY),
            Error::FeedBegunAnew => Self::new(
                Code::Unavailable,
                R::FeedBegunAnew,
                "the access feed has a new epoch; call Watch again",
            )
            .with_retry_after(Duration::ZERO),
            Error::Refused(error) => match Caller::Refused(error).principal() {
                Err(reply) => reply,
                Ok(_) => Self::internal(),
            },
            Error::OwnAccount => Self::new(
                Code::FailedPrecondition,
                R::OwnAccount,
                "this is your own account; use AccountService instead, which asks for your password",
            ),
            Error::MailNotConfigured => Self::new(
                Code::FailedPrecondition,
                R::MailNotConfigured,
                "this deployment cannot send mail; an administrator can set a temporary password instead",
            ),
            Error::MailQueueFull(after) => Self::new(
                Code::ResourceExhausted,
                R::MailQueueFull,
                "too many mails are waiting to be sent; try again in a moment",
            )
            .with_retry_after(after),
            Error::GuestAccount => Self::new(
                Code::FailedPrecondition,
                R::GuestAccount,
                "this is a guest account, which has no password, login or e-mail address of its own; call \
                UpgradeAccount first, or send the `guest_credential` where the call takes one",
            ),
            Error::GuestsNotAdmitted => Self::new(
                Code::FailedPrecondition,
                R::GuestsNotAdmitted,
                "this deployment admits no guests; create an account with Register",
            ),
            Error::NotAGuest => Self::new(
                Code::FailedPrecondition,
                R::NotAGuest,
                "this account is not a guest account, so it cannot be upgraded",
            ),
            Error::CodeInvalid => Self::new(
                Code::Unauthenticated,
                R::CodeInvalid,
                "the code is wrong, has expired or was used already; request a new one",
            ),
            Error::UndoCodeInvalid => Self::new(
                Code::Unauthenticated,
                R::CodeInvalid,
                "the link is wrong, has expired or was used already; if the account has this e-mail address again, \
                call RequestPasswordReset, and otherwise ask an administrator",
            ),
            Error::EmailNotVerified => Self::new(
                Code::FailedPrecondition,
                R::EmailNotVerified,
                "the e-mail address must be verified first: call RequestEmailVerification and VerifyEmail with the \
                same credentials",
            ),
            Error::EmailCodeInvalid => Self::new(
                Code::PermissionDenied,
                R::EmailCodeInvalid,
                "the code is wrong, has expired or was used already; request a new one",
            ),
            Error::EmailConfirmationRequired => Self::new(
                Code::FailedPrecondition,
                R::EmailConfirmationRequired,
                "a new e-mail address must be confirmed with a mailed code; call ChangeEmail instead",
            ),
            Error::ChallengeInvalid => Self::new(
                Code::Unauthenticated,
                R::LoginChallengeInvalid,
                "this login has expired or is complete already; log in again",
            ),
            Error::SecondFactorWrong => Self::new(
                Code::PermissionDenied,
                R::SecondFactorWrong,
                "the code is wrong or was used already; enter the one that the app shows now, or another recovery \
                code",
            ),
            Error::SecondFactorRequired => authz::step_up_required(StepUp {
                max_age: StepUp::DEFAULT_MAX_AGE,
                acr: Some(Acr::TwoFactors),
            }),
            Error::EnrolmentCodeMissing => {
                InvalidFields::one("email_code", "is required: it was mailed to the user").into()
            }
            Error::FactorNotFound => Self::new(
                Code::NotFound,
                R::FactorNotFound,
                "you have no second factor with this id, or it was not confirmed in time",
            ),
            Error::TooManyFactors => Self::new(
                Code::FailedPrecondition,
                R::TooManyFactors,
                "you have as many authenticator apps as a user can have; remove one first",
            ),
            Error::NoSecondFactor => Self::new(
                Code::FailedPrecondition,
                R::NoSecondFactor,
                "this account has no second factor; add one first",
            ),
            Error::EmailUnreachable => InvalidFields::one("email", "cannot receive mail").into(),
            Error::UserNotFound => Self::new(Code::NotFound, R::UserNotFound, "there is no such user"),
        }
    }
}

/// Returns the reply to a caller who names an object that does not exist.
fn not_found(reason: ErrorReason, kind: &'static str, name: String) -> ErrorReply {
    ErrorReply::new(Code::NotFound, reason, format!("there is no {kind} {name}")).with_resource(kind, name)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        ErrorReply::from(error).into()
    }
}
