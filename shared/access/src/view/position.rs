//! A position in the access feed.

use base::ids::{Id, Kind};

/// Names a life of the feed: a database that was put back from a back-up begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochKind {}

impl Kind for EpochKind {
    const NAME: &'static str = "epoch";
}

/// Names a life of the feed.
pub type Epoch = Id<EpochKind>;

/// How far a consumer of the feed has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// In which life of the feed.
    pub epoch: Epoch,
    /// The last change that it knows, from 0.
    pub sequence: i64,
}
