//! Conversion of domain errors to replies for callers.

use std::time::Duration;

use base::error::ErrorReply;
use proto::game::v1::ErrorReason;
use tonic::{Code, Status};

use crate::domain::Error;

/// Time after which a caller should read an overdue game again.
const OVERDUE_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Time after which a caller should try again to watch a game.
const WATCH_RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for ErrorReply {
    fn from(error: Error) -> Self {
        use ErrorReason as R;
        let failed = |reason, message: &'static str| Self::new(Code::FailedPrecondition, reason, message);
        match error {
            Error::Fields(fields) => fields.into(),
            Error::Database(error) => error.into(),
            Error::Internal(text) => {
                tracing::error!(error = text, "internal error");
                Self::internal()
            }
            Error::GameNotFound(id) => Self::new(
                Code::NotFound,
                R::GameNotFound,
                "no game has this id, or you are not allowed to see it",
            )
            .with_resource("game", id.to_string()),
            Error::GameTaken => Self::new(
                Code::Aborted,
                R::GameTaken,
                "another player has just joined this game; choose another one",
            ),
            Error::GameIsOwn => failed(R::GameIsOwn, "this is your own game; another player has to join it"),
            Error::GameNotStarted => failed(R::GameNotStarted, "the game is still waiting for a second player"),
            Error::GameFinished => failed(R::GameFinished, "the game is over"),
            Error::GameOverdue => failed(
                R::GameOverdue,
                "the time for the next move has run out; the server ends the game as soon as it is sure of its clock",
            )
            .with_retry_after(OVERDUE_RETRY_AFTER),
            Error::GameNotOwn => Self::new(
                Code::PermissionDenied,
                R::GameNotOwn,
                "only the player who created the game can cancel it",
            ),
            Error::GameStarted => failed(R::GameStarted, "the game has started; call ResignGame to give it up"),
            Error::RequestIdReused => Self::new(
                Code::AlreadyExists,
                R::RequestIdReused,
                "the `request_id` was used for another game; use a new one for each game",
            ),
            Error::UserNotFound(id) => Self::new(
                Code::NotFound,
                R::UserNotFound,
                "game-service knows no player with this id, or you asked for another player's history without the \
                 permission history:read_all",
            )
            .with_resource("user", id.to_string()),
            Error::UserDeleted => Self::new(Code::Unauthenticated, R::UserDeleted, "this account has been deleted"),
            Error::TooManyWatched(most) => Self::new(
                Code::ResourceExhausted,
                R::TooManyGamesWatched,
                format!("you already watch {most} games, which is the limit; close one of the streams"),
            )
            .with_retry_after(WATCH_RETRY_AFTER),
            Error::TooManyGames(most) => Self::new(
                Code::ResourceExhausted,
                R::TooManyGames,
                format!("you already have {most} unfinished games, which is the limit; finish or cancel one first"),
            )
            .with_metadata("limit", most.to_string()),
            Error::NotYourTurn => failed(R::NotYourTurn, "it is your opponent's turn"),
            Error::CellTaken => failed(R::CellTaken, "this cell already holds a mark"),
            Error::VersionMismatch { version } => {
                let message = format!("the game is at another version, {version}; read it again");
                Self::new(Code::Aborted, R::VersionMismatch, message).with_metadata("version", version.to_string())
            }
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        ErrorReply::from(error).into()
    }
}
