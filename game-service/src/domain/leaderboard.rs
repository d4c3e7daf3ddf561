//! The leaderboard.
//!
//! Each process keeps the ranks in memory. Before it answers, it asks the database what has changed
//! since the last query. An answer therefore includes every game that had ended when the request
//! came, no matter which process served that game.
//!
//! Requests that arrive during such a query wait for the next one and share its result.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use base::ids::UserId;
use db::Db;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Mutex;

use super::{Error, Player};
use crate::{
    ranks::{RankedPlayer, Ranks, Standing},
    store::{self, Horizon},
};

/// Number of players that are read in one query.
const BATCH: i64 = 20_000;
/// Number of changed players from which on all players are read again.
const MAX_CHANGES: i64 = 20_000;

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
pub(crate) enum Whose {
    /// The caller, who may not have played yet.
    Own(Player),
    /// Another user.
    Of(UserId),
}

#[derive(Debug)]
struct Memory {
    ranks: RwLock<Ranks>,
    /// Progress of the queries. Only the holder of this lock queries the database.
    known: Mutex<Progress>,
    /// Number of queries that have begun.
    begun: AtomicU64,
}

#[derive(Debug, Default)]
struct Progress {
    /// Changes that are known so far. `None` until all players have been read.
    horizon: Option<Horizon>,
    /// Number of the query, counted from 1, that brought the present state.
    asked: u64,
}

impl Leaderboard {
    pub(crate) fn new(db: Db, min_games: i64) -> Self {
        let memory = Memory {
            ranks: RwLock::new(Ranks::new(min_games)),
            known: Mutex::default(),
            begun: AtomicU64::new(0),
        };
        Self {
            db,
            min_games,
            memory: Arc::new(memory),
        }
    }

    /// Returns the best players, at most `limit`.
    pub(crate) async fn top(&self, limit: usize) -> Result<Vec<RankedPlayer>, Error> {
        self.catch_up().await?;
        Ok(self.ranks().top(limit))
    }

    /// Returns a player's place, and the number of games that the player still has to finish to be
    /// ranked.
    pub(crate) async fn place(&self, whose: Whose) -> Result<(RankedPlayer, i64), Error> {
        self.catch_up().await?;
        if let Some(found) = self.ranks().player(whose.user()) {
            return Ok(found);
        }
        let (id, login) = match whose {
            Whose::Own(player) => (player.id, player.login),
            Whose::Of(user) => self.player(user).await?,
        };
        Ok((RankedPlayer::new(id, login), self.min_games))
    }

    /// Returns a player and the neighbours, `limit` entries in all. Empty if the player is not
    /// ranked.
    pub(crate) async fn around(&self, whose: Whose, limit: usize) -> Result<Vec<RankedPlayer>, Error> {
        self.catch_up().await?;
        let around = self.ranks().around(whose.user(), limit);
        if around.is_empty()
            && let Whose::Of(user) = whose
        {
            // An unknown user is an error, while an unranked one is not.
            self.player(user).await?;
        }
        Ok(around)
    }

    /// Brings the ranks in memory up to date with the database.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        // Any query that begins from now on sees everything that this caller must see.
        let begun = self.memory.begun.load(Ordering::SeqCst);
        let mut known = self.memory.known.lock().await;
        if known.asked > begun {
            return Ok(());
        }
        // Lets callers that are just arriving share this query instead of each making one.
        tokio::task::yield_now().await;
        let asked = self.memory.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let changed = match &known.horizon {
            Some(since) => store::standings_changed(&mut self.db.read().await?, since, MAX_CHANGES).await?,
            None => None,
        };
        match changed {
            Some((horizon, rows)) => {
                self.take_in(rows);
                known.horizon = Some(horizon);
            }
            None => self.load(&mut known).await?,
        }
        known.asked = asked;
        Ok(())
    }

    /// Reads all players, and then the changes that were made meanwhile.
    async fn load(&self, known: &mut Progress) -> Result<(), Error> {
        let start = Instant::now();
        known.horizon = None;
        while store::standings_settle(&mut self.db.write().await?, BATCH).await? > 0 {}
        loop {
            let horizon = store::standings_horizon(&mut self.db.read().await?).await?;
            let mut ranks = Ranks::new(self.min_games);
            let mut after = None;
            loop {
                let rows = store::standings_list(&mut self.db.scan().await?, after, BATCH).await?;
                let Some((last, _)) = rows.last() else { break };
                after = Some(*last);
                for (id, standing) in rows {
                    ranks.set(id, standing);
                }
            }
            let players = ranks.len();
            *self.memory.ranks.write() = ranks;
            // Any number of changes is accepted here. `None` means that another database has
            // replaced this one, so everything is read again.
            let changed = store::standings_changed(&mut self.db.scan().await?, &horizon, i64::MAX).await?;
            if let Some((horizon, rows)) = changed {
                self.take_in(rows);
                known.horizon = Some(horizon);
                tracing::info!(
                    players,
                    milliseconds = start.elapsed().as_millis(),
                    "read the leaderboard"
                );
                return Ok(());
            }
        }
    }

    fn take_in(&self, rows: Vec<(UserId, Standing)>) {
        if !rows.is_empty() {
            let mut ranks = self.memory.ranks.write();
            for (id, standing) in rows {
                ranks.set(id, standing);
            }
        }
    }

    fn ranks(&self) -> RwLockReadGuard<'_, Ranks> {
        self.memory.ranks.read()
    }

    /// Returns the id and login of a known player, who may not have finished any game.
    async fn player(&self, user: UserId) -> Result<(UserId, String), Error> {
        let mut known = store::players_by_ids(&mut self.db.read().await?, &[user]).await?;
        known.pop().ok_or(Error::UserNotFound(user))
    }
}

impl Whose {
    const fn user(&self) -> UserId {
        match self {
            Self::Own(player) => player.id,
            Self::Of(user) => *user,
        }
    }
}
