//! Players and finished games that nobody has played: for demonstrations and for measurements.
//!
//! Every game goes by the same rules as one that is played. Players are made in blocks, who play each other; a block is one transaction, so that
//! at any moment what is there is whole.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, RngExt as _};
use shared::{
    clock::Timestamp,
    db::{Db, write_tx},
    ids::{Id, Kind, UserId},
};
use uuid::Builder;

use super::{
    Error, Game, GameResult, Opponent,
    finish::{self, Groups},
    game::Moment,
};
use crate::{
    rules::{Board, Cell, Mark, Outcome},
    store::{self, GameRow, MoveRow, PlayerRow, ResultRow, StatsRow},
};

/// Games of a block, about: a transaction of less than a second.
const GAMES: u64 = 2000;
/// Players of a block, at most.
const PLAYERS: u64 = 2000;
/// The time in which the games were played, up to now.
const PAST: Duration = Duration::from_hours(30 * 24);
/// From one move to the next.
const THINKING: Duration = Duration::from_secs(8);
/// As the settings have it by default.
const LIE: Duration = Duration::from_hours(24);

const FIRST: [&str; 16] = [
    "brave", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "kind", "lucky", "merry", "proud", "quick",
    "quiet", "swift", "wise",
];
const SECOND: [&str; 16] = [
    "badger", "crane", "falcon", "fox", "hare", "heron", "ibex", "lynx", "marten", "otter", "owl", "raven", "salmon",
    "seal", "stork", "wolf",
];

/// Makes players and games.
#[derive(Debug)]
pub(crate) struct Seed<R> {
    pub(crate) db: Db,
    pub(crate) random: R,
    pub(crate) now: Timestamp,
    pub(crate) players: u64,
    pub(crate) games: u64,
}

/// Somebody who plays.
struct Person {
    id: UserId,
    login: String,
    /// How often they see what a move would do, 0 to 1.
    skill: f64,
}

/// The rows of one transaction.
#[derive(Default)]
struct Block {
    players: Vec<PlayerRow>,
    games: Vec<GameRow>,
    moves: Vec<MoveRow>,
    results: Vec<ResultRow>,
    stats: BTreeMap<UserId, StatsRow>,
}

impl<R: Rng> Seed<R> {
    /// Writes everything, and says after each block which players and how many games are there.
    pub(crate) async fn run(mut self, mut progress: impl FnMut(&[UserId], u64)) -> Result<(), Error> {
        let blocks = self
            .players
            .div_ceil(PLAYERS)
            .max(self.games.div_ceil(GAMES))
            .min(self.players / 2)
            .max(1);
        for index in 0..blocks {
            // What does not divide goes to the first ones.
            let share = |all: u64| all / blocks + u64::from(index < all % blocks);
            let (players, games) = (share(self.players), share(self.games));
            let first = self.players / blocks * index + index.min(self.players % blocks);
            let block = self.block((index, blocks), first, players, games)?;
            self.write(&block).await?;
            let ids: Vec<UserId> = block.players.iter().map(|player| player.id).collect();
            progress(&ids, games);
        }
        Ok(())
    }

    fn block(&mut self, (index, blocks): (u64, u64), first: u64, players: u64, games: u64) -> Result<Block, Error> {
        // Each block has a part of the time, so that ids grow as they do in life, which keeps an index small and fast. The last game is over by
        // now even if a turn lies for a day in it.
        let span = PAST.saturating_sub(2 * LIE) / u32::try_from(blocks).unwrap_or(u32::MAX);
        let start = self
            .now
            .minus(PAST)
            .plus(span * u32::try_from(index).unwrap_or(u32::MAX));
        let mut block = Block::default();
        let people: Vec<Person> = (first..first + players)
            .map(|number| self.person(start, number))
            .collect();
        let row = |person: &Person| PlayerRow {
            id: person.id,
            login: person.login.clone(),
        };
        block.players = people.iter().map(row).collect();
        for _ in 0..games {
            let time = start.plus(span.mul_f64(self.random.random()));
            let game = self.game(&people, time)?;
            block.games.push(game.to_row(None));
            block.moves.extend(game.move_rows(0));
            for row in finish::results(&game)? {
                block.count(&row)?;
                block.results.push(row);
            }
        }
        Ok(block)
    }

    fn person(&mut self, time: Timestamp, number: u64) -> Person {
        let word = |words: [&'static str; 16], at: u64| words[usize::try_from(at % 16).unwrap_or(0)];
        Person {
            id: self.id(time),
            login: format!("{}_{}_{number}", word(FIRST, number), word(SECOND, number / 16)),
            skill: self.random.random(),
        }
    }

    /// An id as it would have been made at this time (RFC 9562, version 7).
    fn id<K: Kind>(&mut self, time: Timestamp) -> Id<K> {
        let millis = u64::try_from(time.as_micros() / 1000).unwrap_or(0);
        Id::from_uuid(Builder::from_unix_timestamp_millis(millis, &self.random.random()).into_uuid())
    }

    /// A game that two of these people, or one and the computer, have played to its end.
    fn game(&mut self, people: &[Person], time: Timestamp) -> Result<Game, Error> {
        let none = || Error::Internal("a block without players".to_owned());
        // Some play much more than others.
        let mut somebody = || {
            let most = self.random.random_range(0..people.len().max(1));
            people.get(self.random.random_range(0..=most)).ok_or_else(none)
        };
        let (creator, mut other) = (somebody()?, somebody()?);
        if creator.id == other.id {
            let next = people
                .iter()
                .position(|person| person.id == creator.id)
                .map_or(0, |at| at + 1);
            other = &people[next % people.len()];
        }
        let is_alone = creator.id == other.id || self.random.random_bool(0.05);
        let opponent = if is_alone { Opponent::Computer } else { Opponent::Player };
        let mark = if self.random.random() { Mark::X } else { Mark::O };
        let mut moment = Moment {
            now: time,
            open_for: LIE,
            turn_for: LIE,
        };
        let mut game = Game::new(
            self.id::<crate::ids::GameKind>(time),
            opponent,
            creator.id,
            mark,
            moment,
        );
        moment.now = moment.now.plus(THINKING);
        if opponent == Opponent::Player {
            game.join(other.id, moment)?;
        }
        while let Outcome::Turn(turn) = game.board.outcome()
            && !game.is_over()
        {
            moment.now = moment.now.plus(THINKING);
            let person = if game.player(turn) == Some(creator.id) {
                creator
            } else {
                other
            };
            let (moves, chance) = (game.moves.len(), self.random.random::<f64>());
            if moves >= 2 && chance < 0.01 {
                game.resign(person.id, moment)?;
            } else if moves >= 2 && chance < 0.012 {
                moment.now = moment.now.plus(LIE);
                game.run_out(moment);
            } else {
                let cell = self.choose(&game.board, turn, person.skill).ok_or_else(none)?;
                game.play(person.id, cell, game.version, moment)?;
            }
        }
        Ok(game)
    }

    /// A move: one that wins or saves, where it is seen, or any.
    fn choose(&mut self, board: &Board, mark: Mark, skill: f64) -> Option<Cell> {
        let cells: Vec<Cell> = board.empty_cells().collect();
        if self.random.random_bool(skill) {
            for mark in [mark, mark.other()] {
                let wins = |cell: &&Cell| board.with(**cell, mark).outcome() == Outcome::Won(mark);
                if let Some(cell) = cells.iter().find(wins) {
                    return Some(*cell);
                }
            }
        }
        let any = self.random.random_range(0..cells.len().max(1));
        cells.get(any).copied()
    }

    async fn write(&self, block: &Block) -> Result<(), Error> {
        let mut groups = Groups::default();
        for row in block.stats.values() {
            groups.join(row.games_played, row.wins);
        }
        let stats: Vec<StatsRow> = block.stats.values().cloned().collect();
        write_tx!(self.db, |tx| {
            store::players_insert(tx, &block.players).await?;
            store::games_insert(tx, &block.games).await?;
            store::many_moves_insert(tx, &block.moves).await?;
            store::many_results_insert(tx, &block.results).await?;
            store::stats_insert(tx, &stats).await?;
            groups.write(tx).await
        })
    }
}

impl Block {
    fn count(&mut self, row: &ResultRow) -> Result<(), Error> {
        let result = GameResult::parse(&row.result).ok_or_else(|| Error::Internal("a result of no kind".to_owned()))?;
        let one = result.stats(row.user_id, row.finish_time);
        let Some(sum) = self.stats.get_mut(&row.user_id) else {
            self.stats.insert(row.user_id, one);
            return Ok(());
        };
        sum.wins += one.wins;
        sum.losses += one.losses;
        sum.draws += one.draws;
        sum.games_played += 1;
        sum.win_ratio = finish::win_ratio(sum.wins, sum.losses, sum.draws);
        sum.last_finish_time = sum.last_finish_time.max(one.last_finish_time);
        Ok(())
    }
}
