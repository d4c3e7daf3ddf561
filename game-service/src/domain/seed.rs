//! Generated players and finished games, for demonstrations and measurements.
//!
//! Every game follows the same rules as a real one. Players are created in cohorts and play within
//! their cohort. Games are written in batches, together with their results and stats, so the
//! database is consistent after every transaction.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::{Id, Kind, UserId},
};
use db::{Db, write_tx};
use rand::{Rng, RngExt as _};
use uuid::Builder;

use super::{Error, Game, Opponent, game::Moment, results};
use crate::{
    rules::{Board, Cell, Mark, Outcome},
    store::{self, GameRow, PlayerRow, ResultRow, StatsRow},
};

/// Number of games per transaction. It is limited because other writers wait for the transaction.
const GAMES_PER_BATCH: u64 = 2000;
/// Maximum number of players in a cohort.
const MAX_COHORT_SIZE: u64 = 2000;
/// Length of the period, up to now, in which the games were played.
const PERIOD: Duration = Duration::from_hours(30 * 24);
/// Time from one move to the next.
const MOVE_INTERVAL: Duration = Duration::from_secs(8);
/// Time limit for joining and for each move. This is the default of the settings.
const TIME_LIMIT: Duration = Duration::from_hours(24);

const ADJECTIVES: [&str; 16] = [
    "brave", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "kind", "lucky", "merry", "proud", "quick",
    "quiet", "swift", "wise",
];
const ANIMALS: [&str; 16] = [
    "badger", "crane", "falcon", "fox", "hare", "heron", "ibex", "lynx", "marten", "otter", "owl", "raven", "salmon",
    "seal", "stork", "wolf",
];

/// Generator of players and games.
#[derive(Debug)]
pub(crate) struct Seed<R> {
    pub(crate) db: Db,
    pub(crate) random: R,
    pub(crate) now: Timestamp,
    pub(crate) players: u64,
    pub(crate) games: u64,
}

/// Simulated player.
struct Person {
    id: UserId,
    login: String,
    /// Probability, 0 to 1, that this player notices a winning or blocking move.
    skill: f64,
}

/// The rows of one transaction.
#[derive(Default)]
struct Batch {
    players: Vec<PlayerRow>,
    games: Vec<GameRow>,
    results: Vec<ResultRow>,
    stats: BTreeMap<UserId, StatsRow>,
}

impl<R: Rng> Seed<R> {
    /// Writes everything. After each transaction, calls `progress` with the new players and the
    /// number of new games.
    pub(crate) async fn run(mut self, mut progress: impl FnMut(&[UserId], u64)) -> Result<(), Error> {
        // Each cohort has at least two players.
        let cohorts = self.players.div_ceil(MAX_COHORT_SIZE).min(self.players / 2).max(1);
        // Each cohort plays in its own part of the period. Ids, which are ordered by time, then
        // grow as they do in production, which keeps the indexes small and fast. The period ends
        // two days before now, so that the last game is over by now even if it ends by a timeout.
        let span = PERIOD.saturating_sub(2 * TIME_LIMIT) / u32::try_from(cohorts).unwrap_or(u32::MAX);
        let (mut start, mut first) = (self.now.minus(PERIOD), 0);
        for index in 0..cohorts {
            // The remainder goes to the first cohorts.
            let share = |all: u64| all / cohorts + u64::from(index < all % cohorts);
            let (players, mut games) = (share(self.players), share(self.games));
            let people: Vec<Person> = (first..first + players)
                .map(|number| self.person(start, number))
                .collect();
            let mut ids: Vec<UserId> = people.iter().map(|person| person.id).collect();
            loop {
                let some = games.min(GAMES_PER_BATCH);
                let mut batch = self.batch(&people, (start, span), some)?;
                if !ids.is_empty() {
                    batch.players = people.iter().map(Person::row).collect();
                }
                self.write(&batch).await?;
                progress(&std::mem::take(&mut ids), some);
                games -= some;
                if games == 0 {
                    break;
                }
            }
            first += players;
            start = start.plus(span);
        }
        Ok(())
    }

    fn batch(&mut self, people: &[Person], (start, span): (Timestamp, Duration), games: u64) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for _ in 0..games {
            let time = start.plus(span.mul_f64(self.random.random()));
            let game = self.game(people, time)?;
            batch.games.push(game.to_row(None));
            for row in results::results(&game)? {
                if let Some(one) = results::stats_of(&row)? {
                    match batch.stats.entry(row.user_id) {
                        Entry::Occupied(mut sum) => results::add_games(sum.get_mut(), &one, 1),
                        Entry::Vacant(sum) => {
                            sum.insert(one);
                        }
                    }
                }
                batch.results.push(row);
            }
        }
        Ok(batch)
    }

    fn person(&mut self, time: Timestamp, number: u64) -> Person {
        let word = |words: [&'static str; 16], at: u64| words[usize::try_from(at % 16).unwrap_or(0)];
        Person {
            id: self.id(time),
            login: format!("{}_{}_{number}", word(ADJECTIVES, number), word(ANIMALS, number / 16)),
            skill: self.random.random(),
        }
    }

    /// Creates an id as it would have been generated at this time (RFC 9562, version 7).
    fn id<K: Kind>(&mut self, time: Timestamp) -> Id<K> {
        let millis = u64::try_from(time.as_micros() / 1000).unwrap_or(0);
        Id::from_uuid(Builder::from_unix_timestamp_millis(millis, &self.random.random()).into_uuid())
    }

    /// Plays a game to its end, between two of these people or between one of them and the
    /// computer.
    fn game(&mut self, people: &[Person], time: Timestamp) -> Result<Game, Error> {
        // The choice is skewed, so that some play much more than others.
        let mut somebody = |people: usize| {
            let most = self.random.random_range(0..people);
            self.random.random_range(0..=most)
        };
        let (first, mut second) = (somebody(people.len()), somebody(people.len() - 1));
        if second >= first {
            second += 1;
        }
        let (creator, other) = (&people[first], &people[second]);
        let is_alone = self.random.random_bool(0.05);
        let opponent = if is_alone { Opponent::Computer } else { Opponent::Player };
        let mark = if self.random.random() { Mark::X } else { Mark::O };
        let mut moment = Moment {
            now: time,
            open_for: TIME_LIMIT,
            turn_for: TIME_LIMIT,
        };
        let mut game = Game::new(
            self.id::<crate::ids::GameKind>(time),
            opponent,
            creator.id,
            mark,
            moment,
        );
        moment.now = moment.now.plus(MOVE_INTERVAL);
        if opponent == Opponent::Player {
            game.join(other.id, moment)?;
        }
        while let Outcome::Turn(turn) = game.board.outcome()
            && !game.is_over()
        {
            moment.now = moment.now.plus(MOVE_INTERVAL);
            let person = if game.player(turn) == Some(creator.id) {
                creator
            } else {
                other
            };
            let (moves, chance) = (game.moves.len(), self.random.random::<f64>());
            if moves >= 2 && chance < 0.01 {
                game.resign(person.id, moment)?;
            } else if moves >= 2 && chance < 0.012 {
                moment.now = moment.now.plus(TIME_LIMIT + ALLOWANCE);
                game.expire(moment);
            } else {
                let cell = self.choose(&game.board, turn, person.skill);
                game.play(person.id, cell, game.version, moment)?;
            }
        }
        Ok(game)
    }

    /// Chooses a move on a board that is not full. This is a winning or blocking move if the player
    /// notices one, and otherwise a random move.
    fn choose(&mut self, board: &Board, mark: Mark, skill: f64) -> Cell {
        let cells: Vec<Cell> = board.empty_cells().collect();
        if self.random.random_bool(skill) {
            for mark in [mark, mark.other()] {
                let wins = |cell: &&Cell| board.with(**cell, mark).outcome() == Outcome::Won(mark);
                if let Some(cell) = cells.iter().find(wins) {
                    return *cell;
                }
            }
        }
        cells[self.random.random_range(0..cells.len())]
    }

    async fn write(&self, batch: &Batch) -> Result<(), Error> {
        write_tx!(self.db, |tx| {
            store::players_insert(tx, &batch.players).await?;
            store::games_insert(tx, &batch.games).await?;
            store::many_results_insert(tx, &batch.results).await?;
            if batch.players.is_empty() {
                for more in batch.stats.values() {
                    store::stats_add(tx, more).await?;
                }
            } else {
                // None of these players has stats yet.
                let stats: Vec<StatsRow> = batch.stats.values().cloned().collect();
                store::stats_insert(tx, &stats).await?;
            }
            Ok(())
        })
    }
}

impl Person {
    fn row(&self) -> PlayerRow {
        PlayerRow {
            id: self.id,
            login: self.login.clone(),
        }
    }
}
