//! The ids that are game-service's own.

use shared::ids::{Id, Kind};

/// Names a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GameKind {}

impl Kind for GameKind {
    const NAME: &'static str = "game";
}

/// Names a game.
pub(crate) type GameId = Id<GameKind>;
