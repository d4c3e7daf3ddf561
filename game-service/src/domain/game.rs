//! The state machine of a game. Pure: the transactions are in `play`.

use std::time::Duration;

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::UserId,
};

use super::Error;
use crate::{
    ids::GameId,
    rules::{self, Board, Cell, Mark, Outcome},
};

/// A game with its moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Game {
    pub(crate) id: GameId,
    pub(crate) opponent: Opponent,
    pub(crate) creator: UserId,
    /// Player of X. `None` while the side is free, and if the computer plays it.
    pub(crate) x: Option<UserId>,
    /// Player of O. `None` while the side is free, and if the computer plays it.
    pub(crate) o: Option<UserId>,
    pub(crate) board: Board,
    pub(crate) state: State,
    /// Version, starting at 1. Each change adds one.
    pub(crate) version: i64,
    pub(crate) moves: Vec<Move>,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) finish_time: Option<Timestamp>,
    /// Reason why the game is over. `None` until then.
    pub(crate) end: Option<End>,
    /// Time at which the game ends by itself. `None` once it is over.
    pub(crate) expire_time: Option<Timestamp>,
    /// Time of the next check whether its time has run out, no later than it does. A move leaves it
    /// as it is, so that no index changes.
    pub(crate) sweep_time: Timestamp,
    /// Whether the game counts on the leaderboard. Once a guest plays in it, this stays false.
    pub(crate) is_ranked: bool,
}

/// Time of an action on a game, and the time limits that apply to the game afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// How long a game can be joined after its creation.
    pub(crate) open_for: Duration,
    /// How long a player may take for a move.
    pub(crate) turn_for: Duration,
}

/// Kind of opponent: the computer or another player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opponent {
    Computer,
    Player,
}

/// State of a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The game waits for a second player.
    Waiting,
    /// This mark moves next.
    Turn(Mark),
    Won(Mark),
    Draw,
    /// The game ended without a result and counts for neither player.
    Cancelled,
}

/// Reason why a game is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Line,
    FullBoard,
    Resignation,
    Cancellation,
    Timeout,
    Expiry,
}

/// Move: one mark put on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) cell: Cell,
    pub(crate) mark: Mark,
    /// Player who moved. `None` for the computer.
    pub(crate) player: Option<UserId>,
    /// Version of the game after this move.
    pub(crate) version: i64,
    pub(crate) time: Timestamp,
}

/// Outcome of a request to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveOutcome {
    /// The move was made now.
    Made,
    /// The move had already been made. The request is a retry after a lost response, or a
    /// duplicate.
    AlreadyMade,
}

impl Game {
    /// Creates a game in which the creator plays this mark. If the computer plays X, its first move
    /// is made at once.
    pub(crate) fn new(id: GameId, opponent: Opponent, creator: UserId, mark: Mark, moment: Moment) -> Self {
        let mine = |other: Mark| (mark == other).then_some(creator);
        let mut game = Self {
            id,
            opponent,
            creator,
            x: mine(Mark::X),
            o: mine(Mark::O),
            board: Board::default(),
            state: match opponent {
                Opponent::Computer => State::Turn(Mark::X),
                Opponent::Player => State::Waiting,
            },
            version: 1,
            moves: Vec::new(),
            create_time: moment.now,
            update_time: moment.now,
            finish_time: None,
            end: None,
            expire_time: None,
            sweep_time: moment.now,
            is_ranked: true,
        };
        game.expire_time = game.next_expire_time(moment);
        game.sweep_time = game.expire_time.unwrap_or(moment.now);
        game.let_the_computer_move(moment);
        game
    }

    /// Returns the player of this mark. `None` while the side is free, and if the computer plays
    /// it.
    pub(crate) const fn player(&self, mark: Mark) -> Option<UserId> {
        match mark {
            Mark::X => self.x,
            Mark::O => self.o,
        }
    }

    /// Returns the mark that this user plays, if any.
    pub(crate) fn mark_of(&self, user: UserId) -> Option<Mark> {
        [Mark::X, Mark::O]
            .into_iter()
            .find(|mark| self.player(*mark) == Some(user))
    }

    /// Takes the game off the leaderboard, because a guest plays in it. Otherwise, wins against
    /// one's own guests would count.
    pub(crate) const fn unrank(&mut self) {
        self.is_ranked = false;
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Won(_) | State::Draw | State::Cancelled)
    }

    /// Takes the free side for this user. Returns false, and changes nothing, if the user already
    /// plays in this game.
    pub(crate) fn join(&mut self, user: UserId, moment: Moment) -> Result<bool, Error> {
        if user == self.creator {
            return Err(if self.is_over() {
                Error::GameFinished
            } else {
                Error::GameIsOwn
            });
        }
        if self.mark_of(user).is_some() {
            return Ok(false);
        }
        match self.state {
            State::Waiting if self.is_overdue(moment) => return Err(Error::GameNotFound(self.id)),
            State::Waiting => {}
            // Cancelled before any move, usually while it still waited. The game is reported as
            // gone, not as taken by another player.
            State::Cancelled if self.moves.is_empty() => return Err(Error::GameNotFound(self.id)),
            State::Turn(_) | State::Won(_) | State::Draw | State::Cancelled => return Err(Error::GameTaken),
        }
        match self.x {
            None => self.x = Some(user),
            Some(_) => self.o = Some(user),
        }
        self.state = State::Turn(Mark::X);
        self.change(moment);
        Ok(true)
    }

    /// Puts the user's mark on a cell and lets the computer reply. Fails if the game is not at
    /// `expected_version`, the version that the user saw. A repeated request changes nothing.
    pub(crate) fn play(
        &mut self,
        user: UserId,
        cell: Cell,
        expected_version: i64,
        moment: Moment,
    ) -> Result<MoveOutcome, Error> {
        let is_this =
            |made: &Move| made.player == Some(user) && made.cell == cell && made.version - 1 == expected_version;
        if self.moves.iter().any(is_this) {
            return Ok(MoveOutcome::AlreadyMade);
        }
        if self.is_over() {
            return Err(Error::GameFinished);
        }
        if self.is_overdue(moment) {
            return Err(Error::GameOverdue);
        }
        if self.version != expected_version {
            return Err(Error::VersionMismatch { version: self.version });
        }
        let State::Turn(mark) = self.state else {
            return Err(Error::GameNotStarted);
        };
        if self.player(mark) != Some(user) {
            return Err(Error::NotYourTurn);
        }
        if self.board.get(cell).is_some() {
            return Err(Error::CellTaken);
        }
        self.put(cell, mark, moment);
        self.let_the_computer_move(moment);
        Ok(MoveOutcome::Made)
    }

    /// Resigns the game for this user. Returns false, and changes nothing, if the user had already
    /// resigned.
    pub(crate) fn resign(&mut self, user: UserId, moment: Moment) -> Result<bool, Error> {
        let Some(mark) = self.mark_of(user) else {
            return Err(Error::GameNotFound(self.id));
        };
        match self.state {
            State::Waiting => Err(Error::GameNotStarted),
            State::Turn(_) if self.is_overdue(moment) => Err(Error::GameOverdue),
            State::Turn(_) => {
                self.award_to(mark.other(), End::Resignation, moment);
                Ok(true)
            }
            // In a won game, only the loser can have resigned. A cancelled game does not record who
            // resigned, so a repeat by either player is accepted.
            State::Won(winner) if self.end == Some(End::Resignation) && winner != mark => Ok(false),
            State::Cancelled if self.end == Some(End::Resignation) => Ok(false),
            State::Won(_) | State::Draw | State::Cancelled => Err(Error::GameFinished),
        }
    }

    /// Cancels a waiting game. Returns false, and changes nothing, if it was already cancelled.
    pub(crate) fn cancel(&mut self, user: UserId, moment: Moment) -> Result<bool, Error> {
        if user != self.creator {
            return Err(Error::GameNotOwn);
        }
        match self.state {
            State::Waiting => {
                self.finish(State::Cancelled, End::Cancellation, moment);
                Ok(true)
            }
            State::Turn(_) => Err(Error::GameStarted),
            State::Cancelled if self.end == Some(End::Cancellation) => Ok(false),
            State::Won(_) | State::Draw | State::Cancelled => Err(Error::GameFinished),
        }
    }

    /// Checks whether the game's time has run out. From then on, the game can be neither joined nor
    /// played nor resigned. This is reversible: if the clock was wrong, play goes on once it is
    /// right again.
    fn is_overdue(&self, moment: Moment) -> bool {
        self.expire_time.is_some_and(|time| moment.now >= time)
    }

    /// Checks whether the game's time has run out even by a clock that is [`ALLOWANCE`] behind this
    /// one. Such a margin is needed because another process may have set the expiry time. The game
    /// ends as soon as the clock can be relied on.
    pub(crate) fn is_overdue_by_any_clock(&self, moment: Moment) -> bool {
        self.expire_time.is_some_and(|time| moment.now.minus(ALLOWANCE) >= time)
    }

    /// Ends the game if its time has run out. A waiting game is cancelled. In a running game, the
    /// player whose turn it is loses. Returns whether anything changed. The caller must have
    /// checked that the clock can be relied on.
    pub(crate) fn expire(&mut self, moment: Moment) -> bool {
        if !self.is_overdue_by_any_clock(moment) {
            return false;
        }
        match self.state {
            State::Waiting => self.finish(State::Cancelled, End::Expiry, moment),
            State::Turn(mark) => self.award_to(mark.other(), End::Timeout, moment),
            State::Won(_) | State::Draw | State::Cancelled => return false,
        }
        true
    }

    /// Ends a game of a deleted user, as if the user had cancelled or resigned it. Returns whether
    /// anything changed.
    pub(crate) fn abandon(&mut self, user: UserId, moment: Moment) -> bool {
        match (self.state, self.mark_of(user)) {
            (State::Waiting, Some(_)) => self.finish(State::Cancelled, End::Cancellation, moment),
            (State::Turn(_), Some(mark)) => self.award_to(mark.other(), End::Resignation, moment),
            _ => return false,
        }
        true
    }

    /// Ends the game in favour of this mark. If fewer than two moves were made, the game is
    /// cancelled instead and counts for neither player.
    fn award_to(&mut self, winner: Mark, end: End, moment: Moment) {
        let state = if self.moves.len() < 2 {
            State::Cancelled
        } else {
            State::Won(winner)
        };
        self.finish(state, end, moment);
    }

    fn finish(&mut self, state: State, end: End, moment: Moment) {
        self.state = state;
        self.end = Some(end);
        self.finish_time = Some(moment.now);
        self.change(moment);
    }

    /// Returns the time of the last move.
    pub(crate) fn last_move_time(&self) -> Option<Timestamp> {
        self.moves.last().map(|made| made.time)
    }

    fn let_the_computer_move(&mut self, moment: Moment) {
        if self.opponent == Opponent::Computer
            && let State::Turn(mark) = self.state
            && self.player(mark).is_none()
            && let Some(cell) = rules::best_move(&self.board)
        {
            self.put(cell, mark, moment);
        }
    }

    fn put(&mut self, cell: Cell, mark: Mark, moment: Moment) {
        self.board = self.board.with(cell, mark);
        self.state = match self.board.outcome() {
            Outcome::Turn(mark) => State::Turn(mark),
            Outcome::Won(mark) => State::Won(mark),
            Outcome::Draw => State::Draw,
        };
        self.end = match self.state {
            State::Won(_) => Some(End::Line),
            State::Draw => Some(End::FullBoard),
            State::Waiting | State::Turn(_) | State::Cancelled => None,
        };
        self.finish_time = self.end.map(|_| moment.now);
        self.change(moment);
        self.moves.push(Move {
            cell,
            mark,
            player: self.player(mark),
            version: self.version,
            time: moment.now,
        });
    }

    fn change(&mut self, moment: Moment) {
        self.version += 1;
        self.update_time = moment.now;
        self.expire_time = self.next_expire_time(moment);
        if let Some(time) = self.expire_time {
            self.sweep_time = self.sweep_time.min(time);
        }
    }

    fn next_expire_time(&self, moment: Moment) -> Option<Timestamp> {
        match self.state {
            State::Waiting => Some(self.create_time.plus(moment.open_for)),
            State::Turn(_) => Some(moment.now.plus(moment.turn_for)),
            State::Won(_) | State::Draw | State::Cancelled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment {
        now: Timestamp::from_micros(0),
        open_for: Duration::from_hours(1),
        turn_for: Duration::from_mins(1),
    };

    fn cell(number: i32) -> Cell {
        Cell::new(number).expect("on the board")
    }

    fn started() -> (Game, UserId, UserId) {
        let (x, o) = (UserId::generate(), UserId::generate());
        let mut game = Game::new(GameId::generate(), Opponent::Player, x, Mark::X, NOW);
        assert!(game.join(o, NOW).expect("joined"));
        (game, x, o)
    }

    #[test]
    fn a_game_is_played_to_a_win() {
        let (mut game, x, o) = started();
        for (user, number) in [(x, 0), (o, 3), (x, 1), (o, 4), (x, 2)] {
            let version = game.version;
            assert_eq!(
                game.play(user, cell(number), version, NOW).expect("a legal move"),
                MoveOutcome::Made
            );
            assert_eq!(game.version, version + 1);
        }
        assert_eq!(
            (game.state, game.board.to_string().as_str()),
            (State::Won(Mark::X), "XXXOO....")
        );
        assert_eq!(game.finish_time, Some(NOW.now));
    }

    #[test]
    fn illegal_moves_change_nothing() {
        let (mut game, x, o) = started();
        let version = game.version;
        game.play(x, cell(0), version, NOW).expect("a legal move");
        let before = game.clone();
        assert!(matches!(
            game.play(x, cell(1), version + 1, NOW),
            Err(Error::NotYourTurn)
        ));
        assert!(matches!(game.play(o, cell(0), version + 1, NOW), Err(Error::CellTaken)));
        assert!(matches!(
            game.play(o, cell(1), version, NOW),
            Err(Error::VersionMismatch { version: 3 })
        ));
        assert!(matches!(
            game.play(o, cell(1), version + 2, NOW),
            Err(Error::VersionMismatch { version: 3 })
        ));
        assert_eq!(game, before);
        let mut waiting = Game::new(GameId::generate(), Opponent::Player, x, Mark::X, NOW);
        assert!(matches!(waiting.play(x, cell(0), 1, NOW), Err(Error::GameNotStarted)));
    }

    #[test]
    fn a_repeated_move_changes_nothing_even_after_the_reply() {
        let (mut game, x, o) = started();
        let version = game.version;
        game.play(x, cell(0), version, NOW).expect("a legal move");
        game.play(o, cell(1), version + 1, NOW).expect("a legal move");
        let before = game.clone();
        assert_eq!(
            game.play(x, cell(0), version, NOW).expect("a repeat"),
            MoveOutcome::AlreadyMade
        );
        // The same cell for another version, or another cell for the same version, is not a repeat.
        assert!(matches!(game.play(x, cell(0), version + 2, NOW), Err(Error::CellTaken)));
        assert!(matches!(
            game.play(x, cell(5), version, NOW),
            Err(Error::VersionMismatch { .. })
        ));
        assert_eq!(game, before);
    }

    #[test]
    fn the_computer_answers_at_once_from_either_side() {
        let user = UserId::generate();
        let mut game = Game::new(GameId::generate(), Opponent::Computer, user, Mark::X, NOW);
        assert_eq!((game.state, game.version), (State::Turn(Mark::X), 1));
        game.play(user, cell(4), 1, NOW).expect("a legal move");
        assert_eq!(
            (game.state, game.version, game.moves.len()),
            (State::Turn(Mark::X), 3, 2)
        );
        let game = Game::new(GameId::generate(), Opponent::Computer, user, Mark::O, NOW);
        assert_eq!(
            (game.state, game.version, game.moves.len()),
            (State::Turn(Mark::O), 2, 1)
        );
        assert_eq!(game.moves[0].player, None);
    }

    #[test]
    fn resigning_loses_unless_fewer_than_two_moves_were_made() {
        let (mut game, x, o) = started();
        let version = game.version;
        game.play(x, cell(0), version, NOW).expect("a legal move");
        let mut early = game.clone();
        assert!(early.resign(o, NOW).expect("resigned"));
        assert_eq!((early.state, early.end), (State::Cancelled, Some(End::Resignation)));
        game.play(o, cell(1), version + 1, NOW).expect("a legal move");
        assert!(game.resign(x, NOW).expect("resigned"));
        assert_eq!(
            (game.state, game.end, game.finish_time),
            (State::Won(Mark::O), Some(End::Resignation), Some(NOW.now))
        );
        let over = game.clone();
        assert!(!game.resign(x, NOW).expect("once more"));
        assert!(matches!(game.resign(o, NOW), Err(Error::GameFinished)));
        assert!(matches!(
            game.resign(UserId::generate(), NOW),
            Err(Error::GameNotFound(_))
        ));
        assert!(matches!(
            game.play(o, cell(5), game.version, NOW),
            Err(Error::GameFinished)
        ));
        assert_eq!(game, over);
    }

    #[test]
    fn only_the_creator_cancels_a_waiting_game() {
        let (x, o) = (UserId::generate(), UserId::generate());
        let mut game = Game::new(GameId::generate(), Opponent::Player, x, Mark::X, NOW);
        assert!(matches!(game.cancel(o, NOW), Err(Error::GameNotOwn)));
        assert!(matches!(game.resign(x, NOW), Err(Error::GameNotStarted)));
        assert!(game.cancel(x, NOW).expect("called off"));
        assert_eq!(
            (game.state, game.end, game.version),
            (State::Cancelled, Some(End::Cancellation), 2)
        );
        assert!(!game.cancel(x, NOW).expect("once more"));
        assert!(matches!(game.join(o, NOW), Err(Error::GameNotFound(_))));
        let (mut started, x, _) = started();
        assert!(matches!(started.cancel(x, NOW), Err(Error::GameStarted)));
    }

    #[test]
    fn a_game_is_joined_once_and_not_by_its_creator() {
        let (x, o, third) = (UserId::generate(), UserId::generate(), UserId::generate());
        let mut game = Game::new(GameId::generate(), Opponent::Player, x, Mark::O, NOW);
        assert!(matches!(game.join(x, NOW), Err(Error::GameIsOwn)));
        assert!(game.join(o, NOW).expect("joined"));
        assert_eq!((game.x, game.o, game.version), (Some(o), Some(x), 2));
        assert!(!game.join(o, NOW).expect("had joined"));
        assert!(matches!(game.join(third, NOW), Err(Error::GameTaken)));
    }
}
