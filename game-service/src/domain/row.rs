//! Conversion of games to database rows and back.

use super::{End, Error, Game, Opponent, State, game::Move};
use crate::{
    ids::RequestId,
    rules::{Board, Cell, Mark, Outcome},
    store::{GameRow, GameUpdate, Moves, StoredMove},
};

impl Game {
    /// Returns the game in this row.
    pub(super) fn from_row(row: &GameRow) -> Result<Self, Error> {
        let broken = |what: &str| Error::Internal(format!("game {}: {what} is not readable", row.id));
        let board: Board = row.board.parse().map_err(|_| broken("board"))?;
        let state = match (row.state.as_str(), row.winner.as_deref()) {
            ("waiting", None) => State::Waiting,
            ("turn", None) => match board.outcome() {
                Outcome::Turn(mark) => State::Turn(mark),
                _ => return Err(broken("state")),
            },
            ("won", Some(winner)) => State::Won(mark(winner).ok_or_else(|| broken("winner"))?),
            ("draw", None) => State::Draw,
            ("cancelled", None) => State::Cancelled,
            _ => return Err(broken("state")),
        };
        let moves = row
            .moves
            .iter()
            .flat_map(|moves| &moves.0)
            .zip([Mark::X, Mark::O].into_iter().cycle());
        let moves = moves.map(|(made, mark)| {
            Some(Move {
                cell: Cell::new(made.cell)?,
                mark,
                player: match mark {
                    Mark::X => row.x_player_id,
                    Mark::O => row.o_player_id,
                },
                version: made.version,
                time: made.time,
            })
        });
        Ok(Self {
            opponent: match row.opponent.as_str() {
                "computer" => Opponent::Computer,
                "player" => Opponent::Player,
                _ => return Err(broken("opponent")),
            },
            moves: moves.collect::<Option<_>>().ok_or_else(|| broken("a move"))?,
            id: row.id,
            creator: row.creator_id,
            x: row.x_player_id,
            o: row.o_player_id,
            board,
            state,
            version: row.version,
            create_time: row.create_time,
            update_time: row.update_time,
            finish_time: row.finish_time,
            end: match row.end_reason.as_deref() {
                None => None,
                Some(text) => Some(End::parse(text).ok_or_else(|| broken("end reason"))?),
            },
            expire_time: row.expire_time,
            sweep_time: row.sweep_time,
            is_ranked: row.is_ranked,
        })
    }

    /// Returns the row of a new game. `request` is the id of the request that created it, if it had
    /// one.
    pub(super) fn to_row(&self, request: Option<RequestId>) -> GameRow {
        let update = self.to_update();
        GameRow {
            id: self.id,
            opponent: match self.opponent {
                Opponent::Computer => "computer",
                Opponent::Player => "player",
            }
            .to_owned(),
            creator_id: self.creator,
            x_player_id: update.x_player_id,
            o_player_id: update.o_player_id,
            board: update.board,
            state: update.state,
            winner: update.winner,
            version: update.version,
            create_time: self.create_time,
            update_time: update.update_time,
            finish_time: update.finish_time,
            end_reason: update.end_reason,
            create_request: request,
            expire_time: update.expire_time,
            sweep_time: update.sweep_time,
            moves: update.moves,
            is_ranked: update.is_ranked,
        }
    }

    pub(super) fn to_update(&self) -> GameUpdate {
        let (state, winner) = match self.state {
            State::Waiting => ("waiting", None),
            State::Turn(_) => ("turn", None),
            State::Won(mark) => ("won", Some(mark.as_char().to_string())),
            State::Draw => ("draw", None),
            State::Cancelled => ("cancelled", None),
        };
        GameUpdate {
            x_player_id: self.x,
            o_player_id: self.o,
            board: self.board.to_string(),
            state: state.to_owned(),
            winner,
            version: self.version,
            update_time: self.update_time,
            finish_time: self.finish_time,
            end_reason: self.end.map(|end| end.as_str().to_owned()),
            expire_time: self.expire_time,
            sweep_time: self.sweep_time,
            moves: Some(Moves(self.moves.iter().map(stored).collect())),
            is_ranked: self.is_ranked,
        }
    }
}

impl End {
    const ALL: [Self; 6] = [
        Self::Line,
        Self::FullBoard,
        Self::Resignation,
        Self::Cancellation,
        Self::Timeout,
        Self::Expiry,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::FullBoard => "full_board",
            Self::Resignation => "resignation",
            Self::Cancellation => "cancellation",
            Self::Timeout => "timeout",
            Self::Expiry => "expiry",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == text)
    }
}

fn stored(made: &Move) -> StoredMove {
    StoredMove {
        cell: made.cell.number(),
        version: made.version,
        time: made.time,
    }
}

fn mark(text: &str) -> Option<Mark> {
    match text {
        "X" => Some(Mark::X),
        "O" => Some(Mark::O),
        _ => None,
    }
}
