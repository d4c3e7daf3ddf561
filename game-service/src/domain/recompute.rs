//! Comparison, and repair, of derived data: the history with the finished games, and the stats with
//! the history.
//!
//! The service can keep running. Each comparison reads one snapshot, so a game that finishes
//! meanwhile does not look like drift. A difference is checked again under the lock that a
//! finishing game takes, and then repaired.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
};

use base::ids::UserId;
use db::{Conn, Db, write_tx};

use super::{Error, Game, GameResult, results};
use crate::{
    ids::GameId,
    store::{self, ResultRow, StatsRow},
};

/// Number of games or players that are compared at a time.
const BATCH: i64 = 1000;

/// Comparison of history and stats with the data that they are derived from.
#[derive(Clone, Debug)]
pub(crate) struct Recompute {
    pub(crate) db: Db,
    /// Whether differences are repaired as well.
    pub(crate) repairs: bool,
}

/// Difference between derived data and its source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Drift {
    /// The history of a game: as stored, and as expected.
    History(GameId, Vec<ResultRow>, Vec<ResultRow>),
    /// The stats of a player: as stored, and as expected.
    Stats(UserId, Option<StatsRow>, Option<StatsRow>),
}

/// Receiver of the progress and of the differences found.
pub(crate) trait Progress {
    /// Reports the total numbers of games and players to compare.
    fn begins(&mut self, games: u64, players: u64);
    /// Reports that this many more games or players were compared.
    fn compared(&mut self, more: u64);
    /// Reports a difference.
    fn found(&mut self, drift: &Drift);
}

impl Recompute {
    /// Compares all games and then all players.
    pub(crate) async fn run(&self, progress: &mut impl Progress) -> Result<(), Error> {
        let (games, players) = store::counts(&mut self.db.scan().await?).await?;
        let size = |count: i64| u64::try_from(count).unwrap_or(0);
        progress.begins(size(games), size(players));
        self.histories(progress).await?;
        self.stats(progress).await
    }

    async fn histories(&self, progress: &mut impl Progress) -> Result<(), Error> {
        let mut after = None;
        loop {
            let mut snapshot = self.db.long_snapshot().await?;
            let ids = store::game_ids_after(snapshot.conn(), after, BATCH).await?;
            let drifts = history_drifts(snapshot.conn(), &ids).await?;
            snapshot.end().await;
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(*last);
            for drift in drifts {
                progress.found(&drift);
                if let Drift::History(id, ..) = drift
                    && self.repairs
                {
                    self.repair_history(id).await?;
                }
            }
            progress.compared(ids.len() as u64);
        }
    }

    async fn repair_history(&self, id: GameId) -> Result<(), Error> {
        write_tx!(self.db, |tx| {
            store::game_lock(tx, id).await?;
            for drift in history_drifts(tx, &[id]).await? {
                let Drift::History(_, stored, expected) = drift else {
                    continue;
                };
                for row in &stored {
                    store::result_delete(tx, row).await?;
                }
                for row in &expected {
                    store::results_insert(tx, row).await?;
                }
            }
            Ok(())
        })
    }

    async fn stats(&self, progress: &mut impl Progress) -> Result<(), Error> {
        let mut after = None;
        loop {
            let mut snapshot = self.db.long_snapshot().await?;
            let ids = store::player_ids_after(snapshot.conn(), after, BATCH).await?;
            let stored = store::stats_by_ids(snapshot.conn(), &ids).await?;
            let mut summed = sums(snapshot.conn(), &ids).await?;
            snapshot.end().await;
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(*last);
            let mut stored: HashMap<UserId, StatsRow> = stored.into_iter().map(|row| (row.user_id, row)).collect();
            for id in &ids {
                let (stored, expected) = (stored.remove(id), summed.remove(id));
                if stored != expected {
                    progress.found(&Drift::Stats(*id, stored, expected));
                    if self.repairs {
                        self.repair_stats(*id).await?;
                    }
                }
            }
            progress.compared(ids.len() as u64);
        }
    }

    async fn repair_stats(&self, id: UserId) -> Result<(), Error> {
        write_tx!(self.db, |tx| renew_stats(tx, id).await)
    }
}

/// Replaces a player's stats by what the history adds up to.
pub(super) async fn renew_stats(tx: &mut Conn, id: UserId) -> Result<(), Error> {
    store::stats_lock(tx, id).await?;
    match sums(tx, &[id]).await?.remove(&id) {
        None => store::stats_delete(tx, id).await?,
        Some(expected) => store::stats_replace(tx, &expected).await?,
    }
    Ok(())
}

/// Returns the games among these whose history is not as expected. Games that an older version has
/// counted, and that a job has still to check, are as that version left them, which is no drift.
async fn history_drifts(conn: &mut Conn, ids: &[GameId]) -> Result<Vec<Drift>, Error> {
    let rows = store::games_by_ids(conn, ids).await?;
    let waiting: HashSet<GameId> = store::older_results_among(conn, ids).await?.into_iter().collect();
    let mut stored: HashMap<GameId, Vec<ResultRow>> = HashMap::new();
    for row in store::results_by_games(conn, ids).await? {
        stored.entry(row.game_id).or_default().push(row);
    }
    let mut drifts = Vec::new();
    for row in rows.iter().filter(|row| !waiting.contains(&row.id)) {
        let expected = results::results(&Game::from_row(row)?)?;
        let stored = stored.remove(&row.id).unwrap_or_default();
        if stored != expected {
            drifts.push(Drift::History(row.id, stored, expected));
        }
    }
    Ok(drifts)
}

/// Adds up the history of these players.
async fn sums(conn: &mut Conn, ids: &[UserId]) -> Result<HashMap<UserId, StatsRow>, Error> {
    let mut sums: HashMap<UserId, StatsRow> = HashMap::new();
    for (user, result, games, last) in store::results_summed(conn, ids).await? {
        let (Some(result), Some(last)) = (GameResult::parse(&result), last) else {
            return Err(Error::Internal(format!(
                "the history of {user} contains an unknown result"
            )));
        };
        let one = result.stats(user, last);
        match sums.entry(user) {
            Entry::Occupied(mut sum) => results::add_games(sum.get_mut(), &one, games),
            Entry::Vacant(sum) => results::add_games(sum.insert(one.clone()), &one, games - 1),
        }
    }
    Ok(sums)
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = |rows: &[ResultRow]| match rows {
            [] => "nothing".to_owned(),
            rows => rows
                .iter()
                .map(|row| {
                    let uncounted = if row.counts == Some(false) { ", uncounted" } else { "" };
                    format!("{} {} ({}{uncounted})", row.user_id, row.result, row.end_reason)
                })
                .collect::<Vec<_>>()
                .join(", "),
        };
        let stats = |row: Option<&StatsRow>| match row {
            None => "nothing".to_owned(),
            Some(row) => format!("{} won, {} lost, {} drawn", row.wins, row.losses, row.draws),
        };
        match self {
            Self::History(id, stored, expected) => {
                write!(
                    f,
                    "game {id}: the history says {}, the game {}",
                    history(stored),
                    history(expected)
                )
            }
            Self::Stats(id, stored, expected) => {
                let (stored, expected) = (stats(stored.as_ref()), stats(expected.as_ref()));
                write!(f, "player {id}: the stats say {stored}, the history {expected}")?;
                if stored == expected {
                    write!(f, ", at another time")?;
                }
                Ok(())
            }
        }
    }
}
