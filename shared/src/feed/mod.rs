//! The access feed: how a service learns at once what changes about tokens that are already out.

use crate::ids::{Id, Kind};

/// Names a life of the feed: a database that was put back from a back-up begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochKind {}

impl Kind for EpochKind {
    const NAME: &'static str = "epoch";
}

/// Names a life of the feed.
pub type Epoch = Id<EpochKind>;
