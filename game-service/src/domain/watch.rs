//! Watching a game: who waits for its next state, and what they are sent.
//!
//! A state is read when it is sent, so whoever reads slowly is sent the latest one and nothing gathers. That a game has changed is announced
//! after the commit, here and to the other replicas; an announcement can be lost, so a watcher also looks now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared::{
    db::{Announced, Db},
    ids::UserId,
};
use tokio::{sync::watch, time::Instant};

use super::{Error, GameView, Games};
use crate::ids::GameId;

/// On which games that have changed are announced.
pub(super) const CHANNEL: &str = "games";

/// How often a watcher looks, announced or not.
const LOOK: Duration = Duration::from_secs(5);
/// How often a game is sent that has not changed.
const REPEAT: Duration = Duration::from_secs(30);

/// Who watches which game in this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<GameId, watch::Sender<()>>>>);

/// Somebody who watches a game.
#[derive(Debug)]
struct Watcher {
    watchers: Watchers,
    id: GameId,
    changed: watch::Receiver<()>,
}

/// A game as it goes on, for one who may see it.
#[derive(Debug)]
pub(crate) struct GameWatch {
    games: Games,
    user: UserId,
    watcher: Watcher,
    /// What was read first, which is sent first.
    first: Option<GameView>,
    /// The version that was sent last, and when.
    sent: Option<(i64, Instant)>,
    has_ended: bool,
}

impl Games {
    /// A game from now on.
    pub(crate) async fn watch(&self, user: UserId, id: GameId) -> Result<GameWatch, Error> {
        // Before the first look, so that no change is missed after it.
        let watcher = self.watchers.add(id);
        let first = self.get(user, id).await?;
        Ok(GameWatch {
            games: self.clone(),
            user,
            watcher,
            first: Some(first),
            sent: None,
            has_ended: false,
        })
    }
}

impl GameWatch {
    /// The game when it is worth to be sent again; `None` once it is over and was sent, or could not be read.
    pub(crate) async fn next(&mut self) -> Option<Result<GameView, Error>> {
        if self.has_ended {
            return None;
        }
        let next = self.next_state().await;
        self.has_ended = next.as_ref().map_or(true, |view| view.game.is_over());
        Some(next)
    }

    async fn next_state(&mut self) -> Result<GameView, Error> {
        if let Some(first) = self.first.take() {
            self.sent = Some((first.game.version, Instant::now()));
            return Ok(first);
        }
        loop {
            // An error would mean that the sender is gone, which stays while somebody watches.
            let _ = tokio::time::timeout(LOOK, self.watcher.changed.changed()).await;
            let view = self.games.get(self.user, self.watcher.id).await?;
            let is_news = self
                .sent
                .is_none_or(|(version, at)| version != view.game.version || at.elapsed() >= REPEAT);
            if is_news {
                self.sent = Some((view.game.version, Instant::now()));
                return Ok(view);
            }
        }
    }
}

impl Watchers {
    /// Wakes watchers, for as long as the database is open.
    pub(crate) async fn wake(self, db: Db) {
        let mut announcements = db.announcements(CHANNEL);
        // The task must not keep open what it waits for.
        drop(db);
        loop {
            let announced = announcements.next().await;
            let watched = self.watched();
            match announced {
                Announced::About(id) => {
                    if let Some(changed) = watched.get(&GameId::from_uuid(id)) {
                        changed.send_replace(());
                    }
                }
                Announced::Anything => watched.values().for_each(|changed| {
                    changed.send_replace(());
                }),
            }
        }
    }

    fn add(&self, id: GameId) -> Watcher {
        let changed = self.watched().entry(id).or_default().subscribe();
        Watcher {
            watchers: self.clone(),
            id,
            changed,
        }
    }

    // Nothing in here is left half written by a panic.
    fn watched(&self) -> MutexGuard<'_, HashMap<GameId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.watchers.watched();
        // This one is still counted.
        if watched
            .get(&self.id)
            .is_some_and(|changed| changed.receiver_count() <= 1)
        {
            watched.remove(&self.id);
        }
    }
}
