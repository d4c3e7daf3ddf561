//! The head of the access feed.

use access::view::Epoch;

/// The last event of the access feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedHead {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: i64,
    /// Longest life of an access token, of all that serve this database.
    pub(crate) max_access_token_seconds: i64,
}
