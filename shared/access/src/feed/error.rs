//! Why the feed cannot be followed, and when to try again.

use std::{io, time::Duration};

use tonic::{Code, Status};

use crate::view::FeedError;

/// Before the first new try; twice as long before each further one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Between tries with credentials that were refused: they count as attempts.
const RETRY_REFUSED: Duration = Duration::from_secs(10);

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
    /// The time before the next try after so many failures in a row.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        match self {
            Self::Token(status) if is_refusal(status) => RETRY_REFUSED,
            // Unlike a refused token, which is replaced.
            Self::Stream(status) if is_refusal(status) && status.code() != Code::Unauthenticated => RETRY_REFUSED,
            _ => {
                let doubled = 1_u32 << failures.saturating_sub(1).min(10);
                RETRY_FIRST.saturating_mul(doubled).min(RETRY_LAST)
            }
        }
    }
}

/// Half of `wait` to all of it, so that services which lost auth-service together do not come back together.
pub(super) fn around(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

/// Words a status for an operator.
fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Whether an answer says that the credentials, or what they are good for, are wrong: to ask again soon is of no use.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
    )
}
