//! Logins of players, kept up to date from the access feed.

use access::{
    feed::{NameChange, NameChanges},
    view::FeedPosition,
};
use base::{
    ids::UserId,
    page::{self, MAX_PAGE_SIZE},
};
use db::{Db, write_tx};
use tokio::sync::mpsc;

use super::{Error, Games};
use crate::store;

/// Number of changes per transaction. It is limited because other writers wait for the transaction.
const CHUNK: usize = 200;

/// Job that applies renames and deletions of users to the players.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) games: Games,
}

impl Names {
    /// Returns the feed position up to which the names are known.
    pub(crate) async fn position(db: &Db) -> Result<Option<FeedPosition>, Error> {
        Ok(store::feed_cursor_get(&mut db.read().await?).await?)
    }

    /// Applies changes until the channel closes, except those that `known` already covers. A failed
    /// change is retried, with a pause of `wait`, until it succeeds, since the feed does not send
    /// it again.
    pub(crate) async fn follow(
        self,
        mut known: Option<FeedPosition>,
        mut changes: mpsc::UnboundedReceiver<NameChanges>,
        wait: std::time::Duration,
    ) {
        while let Some(mut next) = changes.recv().await {
            // Streams overlap while a new one replaces an old one. A late change from the old
            // stream must not undo a newer one.
            if let Some(known) = known.filter(|known| known.epoch == next.position.epoch) {
                next.changes.retain(|(sequence, _)| *sequence > known.sequence);
            }
            while let Err(error) = self.apply(&next).await {
                tracing::warn!(%error, "cannot apply renames and deletions of users; trying again");
                tokio::time::sleep(wait).await;
            }
            let is_older = known
                .is_some_and(|known| known.epoch == next.position.epoch && known.sequence > next.position.sequence);
            if !is_older {
                known = Some(next.position);
            }
        }
    }

    /// Applies renames and deletions. A deleted player loses the name and gives up every game.
    /// Applying the same changes twice has no further effect.
    async fn apply(&self, next: &NameChanges) -> Result<(), Error> {
        let db = &self.games.db;
        let epoch = next.position.epoch;
        for changes in next.changes.chunks(CHUNK) {
            // The rows come first, so that a deleted user cannot begin another game.
            let written: Result<(), Error> = write_tx!(db, |tx| {
                for (sequence, change) in changes {
                    let sequence = *sequence;
                    match change {
                        NameChange::Renamed(user, login) => {
                            store::player_rename(tx, *user, login, FeedPosition { epoch, sequence }).await?;
                        }
                        NameChange::Deleted(user) => store::player_delete(tx, *user).await?,
                    }
                }
                Ok(())
            });
            written?;
            for (_, change) in changes {
                if let NameChange::Deleted(user) = change {
                    self.end_games_of(*user).await?;
                }
            }
        }
        write_tx!(db, |tx| Ok(store::feed_cursor_set(tx, next.position).await?))
    }

    async fn end_games_of(&self, user: UserId) -> Result<(), Error> {
        let mut after = None;
        loop {
            let running = store::games_running(&mut self.games.db.read().await?, user, after, MAX_PAGE_SIZE).await?;
            let Some(last) = running.last() else { return Ok(()) };
            after = Some(page::Position {
                time: last.create_time,
                id: last.id,
            });
            for game in running {
                match self.games.abandon(user, game.id).await {
                    Err(error @ Error::Database(_)) => return Err(error),
                    // A fault in one game must not hold up the other changes.
                    Err(error) => tracing::error!(game = %game.id, %error, "cannot end a game of a deleted user"),
                    Ok(()) => {}
                }
            }
        }
    }
}
