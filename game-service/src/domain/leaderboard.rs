//! The leaderboard.
//!
//! Each process keeps the ranks in memory, and before it answers asks the database what has changed
//! since it last asked. So an answer has every game in it that was over when the question came,
//! whichever process it ended at. Those who come while somebody else asks the database wait for the
//! next one who does, and share what that one brings.

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

/// Players that are read at a time.
const BATCH: i64 = 20_000;
/// Where more than so many have changed, all are read anew.
const MAX_CHANGES: i64 = 20_000;

/// The use cases of the leaderboard.
#[derive(Clone, Debug)]
pub(crate) struct Leaderboard {
    db: Db,
    /// Finished games that a player needs to be ranked.
    min_games: i64,
    memory: Arc<Memory>,
}

/// Player whose place on the leaderboard is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// The caller's, who need not have played.
    Own(Player),
    /// Another user's.
    Of(UserId),
}

#[derive(Debug)]
struct Memory {
    ranks: RwLock<Ranks>,
    /// State of the reader that asks the database.
    known: Mutex<Progress>,
    /// How often somebody has begun to ask.
    begun: AtomicU64,
}

#[derive(Debug, Default)]
struct Progress {
    /// `None` until everybody has been read.
    horizon: Option<Horizon>,
    /// Which time of asking, counted from 1, brought what is in memory.
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

    /// The best players.
    pub(crate) async fn top(&self, limit: usize) -> Result<Vec<RankedPlayer>, Error> {
        self.catch_up().await?;
        Ok(self.ranks().top(limit))
    }

    /// A player's place, and how many games they have to finish until they have one.
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

    /// A player and their neighbours, so many in all. Nobody where the player is not ranked.
    pub(crate) async fn around(&self, whose: Whose, limit: usize) -> Result<Vec<RankedPlayer>, Error> {
        self.catch_up().await?;
        let around = self.ranks().around(whose.user(), limit);
        if around.is_empty()
            && let Whose::Of(user) = whose
        {
            // Somebody at least.
            self.player(user).await?;
        }
        Ok(around)
    }

    /// Takes in what the database has now.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        // Whoever begins to ask from now on sees what this caller is to see.
        let begun = self.memory.begun.load(Ordering::SeqCst);
        let mut known = self.memory.known.lock().await;
        if known.asked > begun {
            return Ok(());
        }
        // Whoever is about to come has no need of a question of their own.
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

    /// Reads everybody, and then what has changed meanwhile.
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
            // However many that are. It is another database by now where one has taken the place of
            // the other.
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

    /// Returns a known player, who may not have finished any game.
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
