//! Position in the access feed.

use base::ids::{Id, Kind};

/// Kind of the ids of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochKind {}

impl Kind for EpochKind {
    const NAME: &'static str = "epoch";
}

/// Id of an epoch of the feed. A database that was restored from a backup, or lost commits in a
/// fail-over, begins a new epoch.
pub type Epoch = Id<EpochKind>;

/// Position that a consumer of the feed has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// Epoch of the feed.
    pub epoch: Epoch,
    /// Sequence number of the last change that the consumer knows, or 0 if it knows none.
    pub sequence: i64,
}
