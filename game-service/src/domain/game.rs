//! A game and what may be done to it. Pure; the transactions are in `play`.

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
    /// Player of X. `None` if nobody has joined yet, and for the computer.
    pub(crate) x: Option<UserId>,
    /// Player of O. `None` if nobody has joined yet, and for the computer.
    pub(crate) o: Option<UserId>,
    pub(crate) board: Board,
    pub(crate) state: State,
    /// Grows by one with every change.
    pub(crate) version: i64,
    pub(crate) moves: Vec<Move>,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) finish_time: Option<Timestamp>,
    /// Why it is over.
    pub(crate) end: Option<End>,
    /// When it ends by itself; nothing once it is over.
    pub(crate) expire_time: Option<Timestamp>,
}

/// When something happens to a game, and how long the game may lie from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// Until nobody can join any more.
    pub(crate) open_for: Duration,
    /// Until whose turn it is has lost.
    pub(crate) turn_for: Duration,
}

/// Whom a game is played against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opponent {
    Computer,
    Player,
}

/// Where a game stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// For a second player.
    Waiting,
    /// This mark moves next.
    Turn(Mark),
    Won(Mark),
    Draw,
    /// Over before it counted.
    Cancelled,
}

/// Why a game is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Line,
    FullBoard,
    Resignation,
    Cancellation,
    Timeout,
    Expiry,
}

/// One mark on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) cell: Cell,
    pub(crate) mark: Mark,
    /// `None` for the computer.
    pub(crate) player: Option<UserId>,
    /// The version of the game that the move made.
    pub(crate) version: i64,
    pub(crate) time: Timestamp,
}

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Played {
    /// It was made now.
    Now,
    /// It had been made before: its answer was lost, or it came twice.
    Before,
}

impl Game {
    /// A new game in which its creator plays this mark. The computer's first move is made where it
    /// plays X.
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
        };
        game.expire_time = game.expires(moment);
        game.let_the_computer_move(moment);
        game
    }

    /// Returns the player of this mark. `None` if nobody has joined yet, and for the computer.
    pub(crate) const fn player(&self, mark: Mark) -> Option<UserId> {
        match mark {
            Mark::X => self.x,
            Mark::O => self.o,
        }
    }

    /// The mark that this user plays.
    pub(crate) fn mark_of(&self, user: UserId) -> Option<Mark> {
        [Mark::X, Mark::O]
            .into_iter()
            .find(|mark| self.player(*mark) == Some(user))
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Won(_) | State::Draw | State::Cancelled)
    }

    /// Takes the free side for this user. Says whether anything changed: not where they had joined
    /// before.
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
            // Nobody else was faster: there is nothing to join any more.
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

    /// Puts the user's mark on a cell of the game as they saw it at `expected_version`, and lets
    /// the computer answer.
    pub(crate) fn play(
        &mut self,
        user: UserId,
        cell: Cell,
        expected_version: i64,
        moment: Moment,
    ) -> Result<Played, Error> {
        let is_this =
            |made: &Move| made.player == Some(user) && made.cell == cell && made.version - 1 == expected_version;
        if self.moves.iter().any(is_this) {
            return Ok(Played::Before);
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
        Ok(Played::Now)
    }

    /// Gives the game up for this user. Says whether anything changed: not where they had given it
    /// up before.
    pub(crate) fn resign(&mut self, user: UserId, moment: Moment) -> Result<bool, Error> {
        let Some(mark) = self.mark_of(user) else {
            return Err(Error::GameNotFound(self.id));
        };
        match self.state {
            State::Waiting => Err(Error::GameNotStarted),
            State::Turn(_) if self.is_overdue(moment) => Err(Error::GameOverdue),
            State::Turn(_) => {
                self.give_to(mark.other(), End::Resignation, moment);
                Ok(true)
            }
            // Who has won did not resign; of a game that counts for nobody nobody asks who did.
            State::Won(winner) if self.end == Some(End::Resignation) && winner != mark => Ok(false),
            State::Cancelled if self.end == Some(End::Resignation) => Ok(false),
            State::Won(_) | State::Draw | State::Cancelled => Err(Error::GameFinished),
        }
    }

    /// Calls a game off that waits. Says whether anything changed: not where it was called off
    /// before.
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

    /// Whether the game's time has run out. Nothing can be done in it from then on, which can be
    /// taken back if the clock was wrong.
    fn is_overdue(&self, moment: Moment) -> bool {
        self.expire_time.is_some_and(|time| moment.now >= time)
    }

    /// Whether the game's time has run out by every right clock: another process may have said when
    /// it does. It ends as soon as the clock can be relied on.
    pub(crate) fn has_run_out(&self, moment: Moment) -> bool {
        self.expire_time.is_some_and(|time| moment.now.minus(ALLOWANCE) >= time)
    }

    /// Ends the game if its time has run out: nobody has joined, or who had to move did not. Says
    /// whether anything changed. The caller has seen that the clock can be relied on.
    pub(crate) fn run_out(&mut self, moment: Moment) -> bool {
        if !self.has_run_out(moment) {
            return false;
        }
        match self.state {
            State::Waiting => self.finish(State::Cancelled, End::Expiry, moment),
            State::Turn(mark) => self.give_to(mark.other(), End::Timeout, moment),
            State::Won(_) | State::Draw | State::Cancelled => return false,
        }
        true
    }

    /// Ends the game of a user who is no more, as if they had called it off or given it up. Says
    /// whether anything changed.
    pub(crate) fn abandon(&mut self, user: UserId, moment: Moment) -> bool {
        match (self.state, self.mark_of(user)) {
            (State::Waiting, Some(_)) => self.finish(State::Cancelled, End::Cancellation, moment),
            (State::Turn(_), Some(mark)) => self.give_to(mark.other(), End::Resignation, moment),
            _ => return false,
        }
        true
    }

    /// Ends the game in favour of this mark. Before both have moved it counts for nobody.
    fn give_to(&mut self, winner: Mark, end: End, moment: Moment) {
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

    /// When the last move was made.
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
        self.expire_time = self.expires(moment);
    }

    fn expires(&self, moment: Moment) -> Option<Timestamp> {
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
                Played::Now
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
    fn what_is_not_a_legal_move_changes_nothing() {
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
    fn a_repeated_move_changes_nothing_also_after_the_answer() {
        let (mut game, x, o) = started();
        let version = game.version;
        game.play(x, cell(0), version, NOW).expect("a legal move");
        game.play(o, cell(1), version + 1, NOW).expect("a legal move");
        let before = game.clone();
        assert_eq!(game.play(x, cell(0), version, NOW).expect("a repeat"), Played::Before);
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
    fn who_resigns_has_lost_and_before_both_have_moved_nobody_has() {
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
    fn a_game_that_waits_is_called_off_by_its_creator() {
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
