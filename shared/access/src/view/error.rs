//! Errors of a stream of the access feed.

use crate::token::KeyError;

/// A stream says what it must not. Leave it, and ask for a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The epoch is not a UUID.
    #[error("the epoch of the access feed is not a UUID")]
    BadEpoch,
    /// An id in an event is not a UUID.
    #[error("the {0} in an event of the access feed is not a UUID")]
    BadId(&'static str),
    /// The keys in an event cannot be used.
    #[error("the access feed contains unusable keys: {0}")]
    BadKeys(#[source] KeyError),
    /// Changes before a snapshot, or a snapshot among changes.
    #[error("the access feed does not begin with a snapshot, or has a second one")]
    OutOfPlace,
    /// The feed goes on in another life, or before where it was.
    #[error("the access feed continues at another position than expected")]
    OtherPlace,
}
