//! Watchers of games in this process, and how they learn of changes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::{ids::UserId, telemetry::metrics::InFlight};
use db::{Announced, Db};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Error, counts};
use crate::{ids::GameId, store};

/// Channel on which changed games are announced.
pub(super) const CHANNEL: &str = "games";

/// Interval at which the versions of watched games are checked, in case an announcement was lost.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Number of versions that are read in one query.
const BATCH: usize = 1000;
/// Maximum number of game streams that one user has open at a replica. Otherwise one user could
/// take up the limit on streams that all users share.
const GAMES_PER_USER: usize = 20;

/// The watchers of games in this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    /// Last known version of each watched game.
    games: HashMap<GameId, watch::Sender<i64>>,
    /// Number of open game streams of each user.
    users: HashMap<UserId, usize>,
}

/// One stream of a game to a user.
#[derive(Debug)]
pub(super) struct Watcher {
    watchers: Watchers,
    pub(super) user: UserId,
    pub(super) id: GameId,
    _counted: InFlight,
    /// `None` only while the watcher is being dropped.
    changed: Option<watch::Receiver<i64>>,
}

impl Watchers {
    /// Wakes the watchers of changed games for as long as the service runs.
    pub(crate) async fn wake(self, db: Db) {
        let mut announcements = db.announcements(CHANNEL);
        let mut check_at = Instant::now() + CHECK_INTERVAL;
        loop {
            match timeout_at(check_at, announcements.next()).await {
                Ok(Announced::About(id)) => {
                    if let Some(changed) = self.watched().games.get(&GameId::from_uuid(id)) {
                        changed.send_modify(|_| {});
                    }
                }
                Ok(Announced::Anything) | Err(_) => {
                    if let Err(error) = self.check_versions(&db).await {
                        tracing::warn!(%error, "cannot read the games that are being watched; trying again later");
                    }
                    check_at = Instant::now() + CHECK_INTERVAL;
                }
            }
        }
    }

    /// Wakes the watchers of games whose version is newer than the last known one.
    async fn check_versions(&self, db: &Db) -> Result<(), Error> {
        let ids: Vec<GameId> = self.watched().games.keys().copied().collect();
        for ids in ids.chunks(BATCH) {
            let versions = store::game_versions(&mut db.read().await?, ids).await?;
            let watched = self.watched();
            for (id, version) in versions {
                if let Some(changed) = watched.games.get(&id) {
                    changed.send_if_modified(|known| std::mem::replace(known, version.max(*known)) < version);
                }
            }
        }
        Ok(())
    }

    pub(super) fn add(&self, user: UserId, id: GameId) -> Result<Watcher, Error> {
        let mut watched = self.watched();
        let games = watched.users.entry(user).or_default();
        if *games >= GAMES_PER_USER {
            return Err(Error::TooManyWatched(GAMES_PER_USER));
        }
        *games += 1;
        let changed = watched.games.entry(id).or_default().subscribe();
        Ok(Watcher {
            watchers: self.clone(),
            user,
            id,
            _counted: counts::watcher(),
            changed: Some(changed),
        })
    }

    // A panic cannot leave this state half updated, so the lock needs no poisoning.
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock()
    }
}

impl Watcher {
    pub(super) async fn changed(&mut self) {
        let changed = match &mut self.changed {
            Some(changed) => changed.changed().await.is_ok(),
            None => false,
        };
        // The sender lives as long as there is a watcher, so this is not expected.
        if !changed {
            std::future::pending::<()>().await;
        }
    }

    /// Records that this version was read, without waking any watcher.
    pub(super) fn record_version(&self, version: i64) {
        if let Some(changed) = self.watchers.watched().games.get(&self.id) {
            changed.send_if_modified(|known| {
                *known = version.max(*known);
                false
            });
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.watchers.watched();
        // Dropped under the lock. If two watchers leave at once, the second one sees that it is the
        // last.
        drop(self.changed.take());
        if watched
            .games
            .get(&self.id)
            .is_some_and(|changed| changed.receiver_count() == 0)
        {
            watched.games.remove(&self.id);
        }
        if let Some(games) = watched.users.get_mut(&self.user) {
            *games -= 1;
            if *games == 0 {
                watched.users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_watchers_are_removed() {
        let watchers = Watchers::default();
        let (ann, bob, game) = (UserId::generate(), UserId::generate(), GameId::generate());
        let left = || {
            let watched = watchers.watched();
            (watched.games.len(), watched.users.len())
        };
        let both = [watchers.add(ann, game), watchers.add(bob, game)].map(|watcher| watcher.expect("not too many"));
        assert_eq!(left(), (1, 2));
        let [first, second] = both;
        drop(first);
        assert_eq!(left(), (1, 1));
        drop(second);
        assert_eq!(left(), (0, 0));
    }

    #[test]
    fn watched_games_are_limited_per_user() {
        let watchers = Watchers::default();
        let (ann, bob) = (UserId::generate(), UserId::generate());
        let mut watched: Vec<Watcher> = (0..GAMES_PER_USER)
            .map(|_| watchers.add(ann, GameId::generate()).expect("not too many"))
            .collect();
        assert!(matches!(
            watchers.add(ann, GameId::generate()),
            Err(Error::TooManyWatched(_))
        ));
        watchers.add(bob, GameId::generate()).expect("another's");
        watched.pop();
        watchers.add(ann, GameId::generate()).expect("one has left");
    }
}
