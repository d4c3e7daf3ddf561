//! Errors of the domain. `grpc::error` converts them into replies for callers.

use std::time::Duration;

use access::token::TokenError;
use base::{error::BadField, validate::InvalidFields};

/// Reason why a use case failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Some fields of the request are invalid.
    #[error("invalid fields")]
    Fields(InvalidFields),
    /// No active user has this identifier and password.
    #[error("invalid credentials")]
    CredentialsInvalid,
    /// Another user has the login, the e-mail address or both.
    #[error("the login or e-mail address is taken")]
    UserAlreadyExists(Vec<BadField>),
    /// This deployment does not allow users to register themselves.
    #[error("registration is closed")]
    RegistrationClosed,
    /// This deployment did not issue the refresh token.
    #[error("invalid refresh token")]
    RefreshTokenInvalid,
    /// The refresh token was not rotated in time.
    #[error("expired refresh token")]
    RefreshTokenExpired,
    /// An old refresh token was used again, so its session was ended.
    #[error("reused refresh token")]
    RefreshTokenReused,
    /// The session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// Another call has just rotated the token.
    #[error("overlapping rotation")]
    RotationOverlap,
    /// The refresh token has not been rotated for too long to issue access tokens.
    #[error("rotation required")]
    RotationRequired,
    /// Too many passwords wait to be hashed. The caller should wait for this time.
    #[error("the hashing queue is full")]
    HashingQueueFull(Duration),
    /// The login that waits for a second factor is over.
    #[error("invalid login challenge")]
    ChallengeInvalid,
    /// The code of the second factor is wrong, or was used already.
    #[error("wrong second factor")]
    SecondFactorWrong,
    /// The caller has a second factor, and must have logged in with it.
    #[error("a login with two factors is required")]
    SecondFactorRequired,
    /// A mailed code is required, and the call has none.
    #[error("the code from the mail is missing")]
    EnrolmentCodeMissing,
    /// The user has no such factor.
    #[error("no such second factor")]
    FactorNotFound,
    /// The user has as many factors as a user can have.
    #[error("too many second factors")]
    TooManyFactors,
    /// The user has no second factor.
    #[error("no second factor")]
    NoSecondFactor,
    /// The caller's access token is no longer valid.
    #[error("the caller is refused: {0}")]
    Refused(#[from] TokenError),
    /// An administrator has called an RPC for other users about their own account.
    #[error("the user is the caller")]
    OwnAccount,
    /// The user does not exist or has been deleted.
    #[error("no such user")]
    UserNotFound,
    /// Too many attempts. The caller should wait for this time.
    #[error("too many attempts")]
    TooManyAttempts(Duration),
    /// The password is correct, but it was temporary and has expired.
    #[error("the temporary password has expired")]
    PasswordExpired,
    /// The user is deactivated.
    #[error("the user is deactivated")]
    UserDeactivated,
    /// The limit on mails to this address is reached. The caller should wait for this time.
    #[error("too many mails to this address")]
    TooManyMails(Duration),
    /// The password is correct but temporary.
    #[error("the password must be changed")]
    PasswordChangeRequired,
    /// The access token is valid for other services, too.
    #[error("an access token that is only for auth-service is required")]
    AudienceRequired,
    /// The call needs the current password.
    #[error("the current password is required")]
    ReauthenticationRequired,
    /// The current password is wrong.
    #[error("wrong current password")]
    CurrentPasswordWrong,
    /// The user has no session with this id.
    #[error("no such session")]
    SessionNotFound,
    /// The user is the last active superuser.
    #[error("this is the last active superuser")]
    LastAdmin,
    /// Only superusers can do this.
    #[error("not a superuser")]
    SuperuserRequired,
    /// No resource has this code name.
    #[error("there is no resource {0}")]
    ResourceNotFound(String),
    /// No action has this code name.
    #[error("there is no action {0}")]
    ActionNotFound(String),
    /// No permission has this name.
    #[error("there is no permission {0}")]
    PermissionNotFound(String),
    /// No role has this code name.
    #[error("there is no role {0}")]
    RoleNotFound(String),
    /// The object is built in or was declared by a service. The text explains what is not possible.
    #[error("{0}")]
    Reserved(&'static str),
    /// Users or roles still hold the object.
    #[error("users or roles still hold it or one of its permissions")]
    InUse,
    /// No service account has this client id.
    #[error("no such service account")]
    ServiceAccountNotFound,
    /// Another service account has the client id.
    #[error("the client id is taken")]
    ServiceAccountAlreadyExists,
    /// No active service account has this client id and secret.
    #[error("invalid client credentials")]
    ClientCredentialsInvalid,
    /// No signing key has this id.
    #[error("no such signing key")]
    SigningKeyNotFound,
    /// The call grants or revokes these permissions, or its target holds them, but the actor does
    /// not. Sorted.
    #[error("the actor lacks permissions that the call involves")]
    GrantExceedsOwn(Vec<String>),
    /// A name, a code name or both are taken.
    #[error("the name is taken")]
    NameTaken(Vec<BadField>),
    /// Another service or an administrator owns this resource.
    #[error("the resource was declared by another service or created by an administrator")]
    ResourceOwned(String),
    /// The account has the maximum number of access feed streams open.
    #[error("too many streams of the access feed")]
    TooManyFeedStreams,
    /// The access feed has a new epoch.
    #[error("the access feed has a new epoch")]
    FeedBegunAnew,
    /// The deployment cannot send mail.
    #[error("mail is not configured")]
    MailNotConfigured,
    /// Too many mails wait to be sent. The caller should wait for this time.
    #[error("too many mails wait to be sent")]
    MailQueueFull(Duration),
    /// The user is a guest, for whom this is not possible.
    #[error("the user is a guest")]
    GuestAccount,
    /// The user is not a guest.
    #[error("the user is not a guest")]
    NotAGuest,
    /// No active user has this identifier and code.
    #[error("invalid code")]
    CodeInvalid,
    /// The code from a link that undoes a change of the address is not valid.
    #[error("invalid code to undo a change of the e-mail address")]
    UndoCodeInvalid,
    /// The user must verify their e-mail address before they log in.
    #[error("the e-mail address is not verified")]
    EmailNotVerified,
    /// The caller's account has no such code.
    #[error("invalid code for an e-mail address")]
    EmailCodeInvalid,
    /// A new e-mail address takes effect only after it has been confirmed.
    #[error("the new e-mail address must be confirmed")]
    EmailConfirmationRequired,
    /// No mail can go to the address.
    #[error("no mail can go to the address")]
    EmailUnreachable,
    /// This deployment admits no guests.
    #[error("guests are not admitted")]
    GuestsNotAdmitted,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A bug or failure in the server. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidFields> for Error {
    fn from(fields: InvalidFields) -> Self {
        Self::Fields(fields)
    }
}
