//! The leaderboard.
//!
//! Each process keeps the ranks in memory. Before it answers, it asks the database what has changed
//! since the last query. An answer therefore includes every game that had ended when the request
//! came, no matter which process served that game.
//!
//! Only the logins of the players who are shown most are kept in memory. The same query returns the
//! logins that have changed. It also reads the logins that are not in memory but are needed for the
//! answer by the ranks before the query. The answer by the new ranks nearly always needs no others.
//!
//! Requests that arrive during such a query wait for the next one and share its result.

mod logins;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Instant};

use base::ids::UserId;
use db::Db;
use parking_lot::{Mutex, RwLock};

use self::logins::LoginCache;
use super::{Error, Player};
use crate::{
    ranks::{RankedPlayer, Ranks, RanksBuilder},
    store::{self, Changes, Horizon},
};

/// Number of rows whose revisions are renewed in one query.
const BATCH: i64 = 20_000;
/// Number of changed players from which on all players are read again. It is small in tests.
const MAX_CHANGES: i64 = if cfg!(test) { 20 } else { 20_000 };

/// The use cases of the leaderboard.
#[derive(Clone, Debug)]
pub(crate) struct Leaderboard {
    db: Db,
    /// Finished games that a player needs to be ranked.
    min_games: i64,
    memory: Arc<Memory>,
}

/// Player whose place on the leaderboard is requested.
#[derive(Clone, Debug)]
pub(crate) enum RequestedPlayer {
    /// The caller, who may not have played yet.
    Caller(Player),
    /// Another user.
    Other(UserId),
}

/// Player on the leaderboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderboardEntry {
    /// Id, rank and results of the player.
    pub(crate) player: RankedPlayer,
    /// Login of the player. Empty if the user was deleted.
    pub(crate) login: String,
}

#[derive(Debug)]
struct Memory {
    board: RwLock<Board>,
    queue: Mutex<Queue>,
    /// Progress of the queries. Only the holder of this lock queries the database and changes the
    /// board.
    known: tokio::sync::Mutex<Progress>,
}

#[derive(Debug)]
struct Board {
    /// `None` while all players are being read. The previous ranks are dropped first, so that the
    /// process never needs the memory of both.
    ranks: Option<Ranks>,
    /// Logins in memory, as up to date as the ranks.
    logins: LoginCache,
    /// Number of times that all players have been read.
    loads: u64,
}

/// Version of the board. While it stays the same, so do all answers.
type Version = (u64, u64, u64);

/// Players found on the board, with their logins if these are known.
struct Found {
    version: Version,
    players: Vec<(RankedPlayer, Option<String>)>,
}

/// Requests that wait for the next query.
#[derive(Debug, Default)]
struct Queue {
    /// Number of queries that have begun.
    begun: u64,
    /// Players whose logins the next query reads.
    wanted: Vec<UserId>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Point up to which changes are known. `None` until all players have been read.
    horizon: Option<Horizon>,
    /// Number of the query, counted from 1, that brought the present state.
    query: u64,
    /// Logins that this query has read.
    logins: Arc<Logins>,
}

type Logins = HashMap<UserId, String>;

impl Leaderboard {
    pub(crate) fn new(db: Db, min_games: i64) -> Self {
        Self::with_logins(db, min_games, logins::MAX_BYTES)
    }

    fn with_logins(db: Db, min_games: i64, max_bytes: u64) -> Self {
        let board = Board {
            ranks: None,
            logins: LoginCache::new(max_bytes),
            loads: 0,
        };
        let memory = Memory {
            board: RwLock::new(board),
            queue: Mutex::default(),
            known: tokio::sync::Mutex::default(),
        };
        Self {
            db,
            min_games,
            memory: Arc::new(memory),
        }
    }

    /// Returns the best players, at most `limit`.
    pub(crate) async fn top(&self, limit: usize) -> Result<Vec<LeaderboardEntry>, Error> {
        self.find(|ranks| ranks.top(limit)).await
    }

    /// Returns a player's place, and the number of games that the player still has to finish to be
    /// ranked.
    pub(crate) async fn place(&self, requested: RequestedPlayer) -> Result<(LeaderboardEntry, i64), Error> {
        let user = requested.user();
        let mut found = self.find(|ranks| ranks.player(user).into_iter().collect()).await?;
        let entry = match (found.pop(), requested) {
            (Some(entry), _) => entry,
            (None, RequestedPlayer::Caller(player)) => LeaderboardEntry::newcomer(player.id, player.login),
            (None, RequestedPlayer::Other(user)) => self.newcomer(user).await?,
        };
        let needed = self.min_games - entry.player.standing.games();
        Ok((entry, needed.max(0)))
    }

    /// Returns a player and the neighbours, `limit` entries in all. Empty if the player is not
    /// ranked.
    pub(crate) async fn around(
        &self,
        requested: RequestedPlayer,
        limit: usize,
    ) -> Result<Vec<LeaderboardEntry>, Error> {
        let around = self.find(|ranks| ranks.around(requested.user(), limit)).await?;
        if around.is_empty()
            && let RequestedPlayer::Other(user) = requested
        {
            // An unknown user is an error, while an unranked one is not.
            self.newcomer(user).await?;
        }
        Ok(around)
    }

    /// Brings the ranks in memory up to date with the database.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        self.refresh(Vec::new()).await.map(drop)
    }

    /// Returns the players that `find` finds once the ranks are up to date, with their logins.
    async fn find(&self, find: impl Fn(&Ranks) -> Vec<RankedPlayer>) -> Result<Vec<LeaderboardEntry>, Error> {
        let look = || self.memory.board.read().look(&find);
        let expected = look();
        let missing = expected.iter().flat_map(Found::missing).collect();
        let logins = self.refresh(missing).await?;
        let is_current = |found: &Found| self.memory.board.read().version() == Some(found.version);
        let mut found = expected.filter(is_current).or_else(look);
        // Another request may have begun to read all players again.
        while found.is_none() {
            self.catch_up().await?;
            found = look();
        }
        match found {
            Some(found) => self.complete(found, &logins).await,
            None => Ok(Vec::new()),
        }
    }

    /// Adds the logins that are missing. Reads those that were not read with the last query.
    async fn complete(&self, found: Found, logins: &Logins) -> Result<Vec<LeaderboardEntry>, Error> {
        let unread: Vec<UserId> = found.missing().filter(|id| !logins.contains_key(id)).collect();
        let read: Logins = if unread.is_empty() {
            Logins::new()
        } else {
            // These are not cached, because a later query may have passed over a change of them.
            let read = store::players_by_ids(&mut self.db.read().await?, &unread).await?;
            read.into_iter().collect()
        };
        let entry = |(player, known): (RankedPlayer, Option<String>)| {
            let id = &player.user_id;
            let login = known.or_else(|| logins.get(id).or_else(|| read.get(id)).cloned());
            LeaderboardEntry {
                player,
                login: login.unwrap_or_default(),
            }
        };
        Ok(found.players.into_iter().map(entry).collect())
    }

    /// Brings the board up to date. Returns the logins that were read at the same time, which
    /// nearly always include those of the players in `wanted`.
    async fn refresh(&self, wanted: Vec<UserId>) -> Result<Arc<Logins>, Error> {
        // Any query that begins from now on sees everything that this caller must see.
        let begun = {
            let mut queue = self.memory.queue.lock();
            queue.wanted.extend(wanted);
            queue.begun
        };
        let mut known = self.memory.known.lock().await;
        if known.query > begun {
            return Ok(Arc::clone(&known.logins));
        }
        // Lets callers that are just arriving share this query instead of each making one.
        tokio::task::yield_now().await;
        let (query, mut wanted) = {
            let mut queue = self.memory.queue.lock();
            queue.begun += 1;
            (queue.begun, std::mem::take(&mut queue.wanted))
        };
        wanted.sort_unstable();
        wanted.dedup();
        let changes = match &known.horizon {
            Some(since) => store::standings_changed(&mut self.db.read().await?, since, MAX_CHANGES, &wanted).await?,
            None => None,
        };
        if let Some(changes) = changes {
            if !changes.is_empty() {
                self.memory.board.write().apply(&changes);
            }
            known.horizon = Some(changes.horizon);
            known.logins = Arc::new(changes.logins.into_iter().collect());
        } else {
            self.load(&mut known).await?;
            known.logins = Arc::default();
        }
        known.query = query;
        Ok(Arc::clone(&known.logins))
    }

    /// Reads all players, and then the changes that were made meanwhile.
    async fn load(&self, known: &mut Progress) -> Result<(), Error> {
        let start = Instant::now();
        known.horizon = None;
        let before = {
            let mut board = self.memory.board.write();
            // The cached logins may miss changes from now on, or belong to another database.
            board.logins.clear();
            board.ranks.take()
        };
        drop(before);
        while store::standings_renew_revisions(&mut self.db.write().await?, BATCH).await? > 0 {}
        loop {
            let mut snapshot = self.db.long_snapshot().await?;
            let horizon = store::standings_horizon(snapshot.conn()).await?;
            let mut builder = RanksBuilder::new(self.min_games);
            store::standings_scan(&mut snapshot, |id, standing| builder.add(id, standing)).await?;
            snapshot.end().await;
            let sorted = tokio::task::spawn_blocking(|| builder.finish()).await;
            let mut ranks = sorted.map_err(|error| Error::Internal(error.to_string()))?;
            // Any number of changes is accepted here. `None` means that another database has
            // replaced this one, so everything is read again.
            let changed = store::standings_changed(&mut self.db.scan().await?, &horizon, i64::MAX, &[]).await?;
            if let Some(changes) = changed {
                for player in changes.players {
                    ranks.set(player.id, player.standing);
                }
                tracing::info!(
                    players = ranks.len(),
                    bytes = ranks.allocated_bytes(),
                    elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "read the leaderboard"
                );
                known.horizon = Some(changes.horizon);
                let mut board = self.memory.board.write();
                board.ranks = Some(ranks);
                board.loads += 1;
                return Ok(());
            }
        }
    }

    /// Returns the entry of a known player who has not finished any game.
    async fn newcomer(&self, user: UserId) -> Result<LeaderboardEntry, Error> {
        let mut known = store::players_by_ids(&mut self.db.read().await?, &[user]).await?;
        let (id, login) = known.pop().ok_or(Error::UserNotFound(user))?;
        Ok(LeaderboardEntry::newcomer(id, login))
    }
}

impl Board {
    fn version(&self) -> Option<Version> {
        Some((self.loads, self.ranks.as_ref()?.version(), self.logins.version()))
    }

    /// Returns the players that `find` finds. `None` while all players are being read.
    fn look(&self, find: impl Fn(&Ranks) -> Vec<RankedPlayer>) -> Option<Found> {
        let login = |player: RankedPlayer| (player, self.logins.get(player.user_id).map(str::to_owned));
        Some(Found {
            version: self.version()?,
            players: find(self.ranks.as_ref()?).into_iter().map(login).collect(),
        })
    }

    /// Applies changes since the last ones, and keeps the logins that were read with them.
    fn apply(&mut self, changes: &Changes) {
        let Some(ranks) = &mut self.ranks else { return };
        for player in &changes.players {
            ranks.set(player.id, player.standing);
            self.logins.update(player.id, &player.login);
        }
        for (id, login) in &changes.logins {
            self.logins.insert(*id, login);
        }
    }
}

impl Found {
    /// Returns the players whose logins are not known.
    fn missing(&self) -> impl Iterator<Item = UserId> {
        self.players
            .iter()
            .filter(|(_, login)| login.is_none())
            .map(|(player, _)| player.user_id)
    }
}

impl LeaderboardEntry {
    /// Creates the entry of a player who has not finished any game.
    const fn newcomer(user_id: UserId, login: String) -> Self {
        Self {
            player: RankedPlayer::newcomer(user_id),
            login,
        }
    }
}

impl RequestedPlayer {
    const fn user(&self) -> UserId {
        match self {
            Self::Caller(player) => player.id,
            Self::Other(user) => *user,
        }
    }
}
