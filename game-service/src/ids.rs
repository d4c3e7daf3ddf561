//! The ids that are game-service's own.

use base::ids::{Id, Kind};

/// Names a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GameKind {}

impl Kind for GameKind {
    const NAME: &'static str = "game";
}

/// Names a game.
pub(crate) type GameId = Id<GameKind>;

/// Names a request that makes something, so that it makes it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RequestKind {}

impl Kind for RequestKind {
    const NAME: &'static str = "request";
}

/// Names a request that makes something, so that it makes it once.
pub(crate) type RequestId = Id<RequestKind>;
