//! Errors of a stream of the access feed.

use crate::token::KeyError;

/// A stream says what it must not. Leave it, and ask for a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The epoch is not a UUID.
    #[error("the access feed names an epoch that is not a UUID")]
    BadEpoch,
    /// An id in an event is not a UUID.
    #[error("an event of the access feed holds a {0} that is not a UUID")]
    BadId(&'static str),
    /// The keys in an event cannot be used.
    #[error("the access feed holds keys that cannot be used: {0}")]
    BadKeys(#[source] KeyError),
    /// Changes before a snapshot, or a snapshot among changes.
    #[error("the access feed does not begin with a snapshot, or has a second one")]
    OutOfPlace,
    /// The feed goes on in another life, or before where it was.
    #[error("the access feed goes on at another place than where it was")]
    OtherPlace,
}
