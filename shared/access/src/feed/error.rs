//! Why the feed cannot be followed, and when to try again.

use std::{io, time::Duration};

use base::backoff::Backoff;
use tonic::{Code, Status};

use crate::view::FeedError;

/// Pauses before auth-service is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Pause after refused credentials, which auth-service counts as failed attempts.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// The secret cannot be read.
    #[error("cannot read the client secret: {0}")]
    Secret(#[source] io::Error),
    /// No token is given.
    #[error("auth-service refuses the client id and secret: {}", told(.0))]
    Token(#[source] Status),
    /// The stream is refused, or breaks off.
    #[error("auth-service closed the access feed: {}", told(.0))]
    Stream(#[source] Status),
    /// The policies are not taken.
    #[error("auth-service refuses the declared permissions: {}", told(.0))]
    Declaration(#[source] Status),
    /// The stream ends.
    #[error("auth-service closed the access feed")]
    Ended,
    /// Nothing comes.
    #[error("auth-service has sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// What comes makes no sense.
    #[error(transparent)]
    Feed(#[from] FeedError),
}

impl FollowError {
    /// Counts this failure and returns the time until the next attempt.
    pub(super) fn pause(&self, backoff: &mut Backoff) -> Duration {
        let pause = backoff.next_pause();
        let is_refused = match self {
            Self::Token(status) => is_refusal(status),
            // A refused token is replaced at once.
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

/// The back-off of everything that waits for auth-service.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}

/// Words a status for an operator.
fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Whether an answer says that the credentials, or what they are good for, are wrong: to ask again
/// soon is of no use.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
    )
}
