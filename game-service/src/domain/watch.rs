//! Watching a game: who waits for its next state, and what they are sent.
//!
//! A state is read when it is sent, so whoever reads slowly is sent the latest one and nothing
//! gathers. That a game has changed is announced with the commit, here and to the other replicas.
//! An announcement can be lost, so every replica also looks now and then whether one of the games
//! that are watched there has another version, for all its watchers at once.

use std::time::Duration;

use base::ids::UserId;
use tokio::time::{Instant, timeout_at};

use super::{Error, GameView, Games, watchers::Watcher};
use crate::ids::GameId;

/// How often a game is sent that has not changed.
const REPEAT: Duration = Duration::from_secs(30);

/// A game as it goes on, for one who may see it.
#[derive(Debug)]
pub(crate) struct GameWatch {
    games: Games,
    watcher: Watcher,
    /// What was read last.
    latest: GameView,
    /// When it was sent.
    sent: Option<Instant>,
    has_ended: bool,
}

impl Games {
    /// A game from now on.
    pub(crate) async fn watch(&self, user: UserId, id: GameId) -> Result<GameWatch, Error> {
        // Before the first look, so that no change is missed after it.
        let watcher = self.watchers.add(user, id)?;
        let latest = self.get(user, id).await?;
        watcher.knows(latest.game.version);
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
    /// The game when it is worth to be sent again; `None` once it is over and was sent, or could
    /// not be read.
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
        while timeout_at(sent + REPEAT, self.watcher.changed()).await.is_ok() {
            let view = self.games.get(self.watcher.user, self.watcher.id).await?;
            self.watcher.knows(view.game.version);
            if view.game.version != self.latest.game.version {
                self.latest = view;
                break;
            }
        }
        Ok(self.latest.clone())
    }
}
