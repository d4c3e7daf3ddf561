//! Errors of game-service in terms of its domain. `grpc::error` converts them into replies to
//! callers.

use base::{StartError, ids::UserId, validate::InvalidFields};

use crate::ids::GameId;

/// Reason why a use case failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Some fields of the request are invalid.
    #[error("invalid fields")]
    Fields(InvalidFields),
    /// The game does not exist, or the caller is not allowed to see it.
    #[error("the game does not exist or is not visible to the caller")]
    GameNotFound(GameId),
    /// Another player has joined first.
    #[error("another player has joined the game")]
    GameTaken,
    /// The caller created the game and cannot join it.
    #[error("the game is the caller's own")]
    GameIsOwn,
    /// The game is waiting for a second player.
    #[error("the game has not started")]
    GameNotStarted,
    /// The game is over.
    #[error("the game is over")]
    GameFinished,
    /// The time for the next move has run out. The game ends once the clock can be relied on.
    #[error("the time for the next move has run out")]
    GameOverdue,
    /// It is the opponent's turn.
    #[error("not the caller's turn")]
    NotYourTurn,
    /// The cell already holds a mark.
    #[error("the cell already holds a mark")]
    CellTaken,
    /// The game is not at the version that the caller expects.
    #[error("the game is at version {version}")]
    VersionMismatch {
        /// Current version.
        version: i64,
    },
    /// Another player created the game, so the caller cannot cancel it.
    #[error("the game is not the caller's own")]
    GameNotOwn,
    /// The game has started and can no longer be cancelled.
    #[error("the game has started")]
    GameStarted,
    /// The request id was used for a game with other parameters.
    #[error("the request id is in use")]
    RequestIdReused,
    /// The user is unknown, or the caller is not allowed to see their history.
    #[error("the user does not exist or is not visible to the caller")]
    UserNotFound(UserId),
    /// The caller's account has been deleted.
    #[error("the user has been deleted")]
    UserDeleted,
    /// The caller already has this many streams of games open, which is the limit.
    #[error("the caller already watches {0} games")]
    TooManyWatched(usize),
    /// The caller already has this many unfinished games, which is the limit.
    #[error("the caller already has {0} unfinished games")]
    TooManyGames(u32),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A bug or failure in the server. The text goes to the log, not to the caller.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidFields> for Error {
    fn from(fields: InvalidFields) -> Self {
        Self::Fields(fields)
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            error => Self::failed(error),
        }
    }
}
