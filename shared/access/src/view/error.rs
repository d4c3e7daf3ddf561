//! Errors of a stream of the access feed.

use crate::token::KeyError;

/// Message that violates the protocol of the feed. The consumer must drop the stream and open a new
/// one.
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
    /// A stream begins with changes instead of a snapshot, or has a snapshot after changes.
    #[error("the access feed does not begin with a snapshot, or has a second one")]
    OutOfOrder,
    /// The feed continues in another epoch, or at an earlier position.
    #[error("the access feed continues at another position than expected")]
    Discontinuous,
}
