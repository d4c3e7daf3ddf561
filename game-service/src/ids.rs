//! Id types of game-service.

use base::ids::{Id, Kind};

/// Kind of the ids of games.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GameKind {}

impl Kind for GameKind {
    const NAME: &'static str = "game";
}

/// Id of a game.
pub(crate) type GameId = Id<GameKind>;

/// Kind of the ids of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RequestKind {}

impl Kind for RequestKind {
    const NAME: &'static str = "request";
}

/// Idempotency key of a request that creates something. A repeated request creates nothing new.
pub(crate) type RequestId = Id<RequestKind>;
