//! Errors that interrupt the feed, and the back-off before the next attempt.

use std::{io, time::Duration};

use base::backoff::Backoff;
use tonic::{Code, Status};

use crate::view::FeedError;

/// Back-off after the first of several failures in a row. It grows up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Pause after refused credentials, which auth-service counts as failed attempts.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Reason why there is no stream, or why the permissions cannot be declared.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// The secret cannot be read.
    #[error("cannot read the client secret: {0}")]
    Secret(#[source] io::Error),
    /// auth-service issues no access token.
    #[error("auth-service refuses the client id and secret: {}", describe(.0))]
    Token(#[source] Status),
    /// auth-service refuses or aborts the stream.
    #[error("auth-service closed the access feed: {}", describe(.0))]
    Stream(#[source] Status),
    /// auth-service refuses the declared permissions.
    #[error("auth-service refuses the declared permissions: {}", describe(.0))]
    Declaration(#[source] Status),
    /// auth-service ended the stream without an error.
    #[error("auth-service closed the access feed")]
    Ended,
    /// No message arrived within this time.
    #[error("auth-service has sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// A message contradicts the protocol of the feed.
    #[error(transparent)]
    Feed(#[from] FeedError),
}

impl FollowError {
    /// Counts this failure and returns the time until the next attempt.
    pub(super) fn pause(&self, backoff: &mut Backoff) -> Duration {
        let pause = backoff.next_pause();
        let is_refused = match self {
            Self::Token(status) => is_refusal(status),
            // A refused token is replaced at once, so the normal back-off applies.
            Self::Stream(status) => is_refusal(status) && status.code() != Code::Unauthenticated,
            _ => false,
        };
        if is_refused {
            REFUSED_PAUSE.mul_f64(rand::random_range(0.5..=1.0))
        } else {
            pause
        }
    }
}

/// Creates a back-off for calls to auth-service.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}

/// Formats a status for an operator.
fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Returns whether the status means that the credentials or the request itself are wrong, so that
/// an early retry is useless.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
    )
}
