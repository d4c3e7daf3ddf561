//! What callers are told of the domain's errors: the one place where these become replies.

use std::time::Duration;

use base::error::ErrorReply;
use proto::game::v1::ErrorReason;
use tonic::{Code, Status};

use crate::domain::Error;

/// Before another look at a game whose time has run out.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Before another try to watch a game.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

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
            Error::GameNotFound(id) => Self::new(Code::NotFound, R::GameNotFound, "there is no such game")
                .with_resource("game", id.to_string()),
            Error::GameTaken => Self::new(
                Code::Aborted,
                R::GameTaken,
                "somebody else has just joined this game; find another one",
            ),
            Error::GameIsOwn => failed(R::GameIsOwn, "this game is your own; somebody else has to join it"),
            Error::GameNotStarted => failed(R::GameNotStarted, "the game waits for its second player"),
            Error::GameFinished => failed(R::GameFinished, "the game is over"),
            Error::GameOverdue => failed(
                R::GameOverdue,
                "the time of this game has run out; the server ends it as soon as it is sure of its clock",
            )
            .with_retry_after(LOOK_AGAIN),
            Error::GameNotOwn => Self::new(
                Code::PermissionDenied,
                R::GameNotOwn,
                "only the creator of a game calls it off",
            ),
            Error::GameStarted => failed(R::GameStarted, "the game has started; it can be resigned"),
            Error::RequestIdReused => Self::new(
                Code::AlreadyExists,
                R::RequestIdReused,
                "the `request_id` has made another game; make a new one for each",
            ),
            Error::UserNotFound(id) => Self::new(Code::NotFound, R::UserNotFound, "there is no such player")
                .with_resource("user", id.to_string()),
            Error::UserDeleted => Self::new(Code::Unauthenticated, R::UserDeleted, "this account is deleted"),
            Error::TooManyWatched(most) => Self::new(
                Code::ResourceExhausted,
                R::TooManyGamesWatched,
                format!("you watch {most} games already; close one of the streams"),
            )
            .with_retry_after(WATCH_AGAIN),
            Error::TooManyGames(most) => Self::new(
                Code::ResourceExhausted,
                R::TooManyGames,
                format!(
                    "you have {most} games that are not over, as many as one player may; finish or cancel one first"
                ),
            )
            .with_metadata("limit", most.to_string()),
            Error::NotYourTurn => failed(R::NotYourTurn, "it is your opponent's turn"),
            Error::CellTaken => failed(R::CellTaken, "the cell holds a mark already"),
            Error::VersionMismatch { version } => {
                let message = format!("the game is at version {version}; read it and decide again");
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
