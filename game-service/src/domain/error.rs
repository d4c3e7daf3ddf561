//! What can go wrong in game-service, in its own terms. `grpc::error` says what a caller is told of it.

use base::{ids::UserId, validate::InvalidFields};

use crate::ids::GameId;

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request cannot be used.
    #[error("invalid fields")]
    Fields(InvalidFields),
    /// There is no such game, or it is not the caller's to see.
    #[error("no such game")]
    GameNotFound(GameId),
    /// Somebody else joined first.
    #[error("the game is taken")]
    GameTaken,
    /// The caller made the game.
    #[error("the game is the caller's own")]
    GameIsOwn,
    /// The second player is missing.
    #[error("the game has not started")]
    GameNotStarted,
    /// The game is over.
    #[error("the game is over")]
    GameFinished,
    /// The game's time has run out, and it will be ended once the clock can be relied on.
    #[error("the time of the game has run out")]
    GameOverdue,
    /// It is the opponent's turn.
    #[error("not the caller's turn")]
    NotYourTurn,
    /// The cell holds a mark.
    #[error("the cell is taken")]
    CellTaken,
    /// The game is at another version than the caller has seen.
    #[error("the game is at version {version}")]
    VersionMismatch {
        /// The present one.
        version: i64,
    },
    /// Somebody else made the game.
    #[error("the game is not the caller's own")]
    GameNotOwn,
    /// The game waits no longer.
    #[error("the game has started")]
    GameStarted,
    /// The id of the request has made another game than this one asks for.
    #[error("the request id is in use")]
    RequestIdReused,
    /// Nobody with this id has played, or what they did is not the caller's to see.
    #[error("no such user")]
    UserNotFound(UserId),
    /// The caller's account is deleted.
    #[error("the user is deleted")]
    UserDeleted,
    /// The caller watches this many games, and may watch no more.
    #[error("too many games are watched")]
    TooManyWatched(usize),
    /// The caller has this many games that are not over, and may have no more.
    #[error("too many games")]
    TooManyGames(u32),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A fault of ours; the text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidFields> for Error {
    fn from(fields: InvalidFields) -> Self {
        Self::Fields(fields)
    }
}
