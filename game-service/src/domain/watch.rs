//! Watching a game: a stream of its states.
//!
//! A state is read when it is sent. A slow reader therefore gets the latest state, and nothing
//! queues up. A change is announced on commit, in this process and to the other replicas. An
//! announcement can be lost, so every replica also checks the versions of its watched games every
//! few seconds, once for all watchers.

use std::time::Duration;

use base::ids::UserId;
use tokio::time::{Instant, timeout_at};

use super::{Error, GameView, Games, watchers::Watcher};
use crate::ids::GameId;

/// Interval at which a game is sent again if it has not changed.
const RESEND_INTERVAL: Duration = Duration::from_secs(30);

/// Stream of the states of a game, for a user who may see it.
#[derive(Debug)]
pub(crate) struct GameWatch {
    games: Games,
    watcher: Watcher,
    /// State that was read last.
    latest: GameView,
    /// Time at which a state was last sent. `None` before the first one.
    sent: Option<Instant>,
    has_ended: bool,
}

impl Games {
    /// Starts to watch a game. Fails if the user may not see it or has too many streams of games
    /// open.
    pub(crate) async fn watch(&self, user: UserId, id: GameId) -> Result<GameWatch, Error> {
        // Registered before the first read, so that no later change is missed.
        let watcher = self.watchers.add(user, id)?;
        let latest = self.get(user, id).await?;
        watcher.record_version(latest.game.version);
        Ok(GameWatch {
            games: self.clone(),
            watcher,
            latest,
            sent: None,
            has_ended: false,
        })
    }
}

impl GameWatch {
    /// Waits until the game has changed or is due to be sent again, and returns it. Returns `None`
    /// after the final state and after an error.
    pub(crate) async fn next(&mut self) -> Option<Result<GameView, Error>> {
        if self.has_ended {
            return None;
        }
        let next = self.next_state().await;
        self.has_ended = next.as_ref().map_or(true, |view| view.game.is_over());
        self.sent = Some(Instant::now());
        Some(next)
    }

    async fn next_state(&mut self) -> Result<GameView, Error> {
        let Some(sent) = self.sent else {
            return Ok(self.latest.clone());
        };
        while timeout_at(sent + RESEND_INTERVAL, self.watcher.changed()).await.is_ok() {
            let view = self.games.get(self.watcher.user, self.watcher.id).await?;
            self.watcher.record_version(view.game.version);
            if view.game.version != self.latest.game.version {
                self.latest = view;
                break;
            }
        }
        Ok(self.latest.clone())
    }
}
