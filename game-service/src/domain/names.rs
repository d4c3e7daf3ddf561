//! The names of players, as the access feed tells of them.

use shared::{
    db::{Db, write_tx},
    feed::{NameChange, NameChanges, Position},
    ids::UserId,
    page::MAX_PAGE_SIZE,
};
use tokio::sync::mpsc;

use super::{Error, Games};
use crate::store;

/// Keeps the names of players.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) games: Games,
}

impl Names {
    /// Up to where the names are known.
    pub(crate) async fn position(db: &Db) -> Result<Option<Position>, Error> {
        Ok(store::feed_cursor_get(&mut db.read().await?).await?)
    }

    /// Takes in what comes, from this position on, until nothing does. What fails is tried again until it is done, since nobody says it a
    /// second time.
    pub(crate) async fn follow(
        self,
        mut known: Option<Position>,
        mut changes: mpsc::UnboundedReceiver<NameChanges>,
        wait: std::time::Duration,
    ) {
        while let Some(mut next) = changes.recv().await {
            // Two streams overlap when one takes the place of the other: what the later one has said is not undone.
            if let Some(known) = known.filter(|known| known.epoch == next.position.epoch) {
                next.changes.retain(|(sequence, _)| *sequence > known.sequence);
            }
            while let Err(error) = self.apply(&next).await {
                tracing::warn!(%error, "cannot take in renames and deletions of users; trying again");
                tokio::time::sleep(wait).await;
            }
            let is_older = known
                .is_some_and(|known| known.epoch == next.position.epoch && known.sequence > next.position.sequence);
            if !is_older {
                known = Some(next.position);
            }
        }
    }

    /// A renamed player has another name; a deleted one has none, and gives up every game. To do it twice changes nothing.
    async fn apply(&self, next: &NameChanges) -> Result<(), Error> {
        let db = &self.games.db;
        // First the rows, so that nobody who is deleted begins another game.
        let written: Result<(), Error> = write_tx!(db, |tx| {
            for (_, change) in &next.changes {
                match change {
                    NameChange::Renamed(user, login) => store::player_rename(tx, *user, login).await?,
                    NameChange::Deleted(user) => store::player_delete(tx, *user).await?,
                }
            }
            Ok(())
        });
        written?;
        for (_, change) in &next.changes {
            if let NameChange::Deleted(user) = change {
                self.end_games_of(*user).await?;
            }
        }
        write_tx!(db, |tx| Ok(store::feed_cursor_set(tx, next.position).await?))
    }

    async fn end_games_of(&self, user: UserId) -> Result<(), Error> {
        loop {
            let conn = &mut self.games.db.read().await?;
            let running = store::games_running(conn, user, None, MAX_PAGE_SIZE).await?;
            if running.is_empty() {
                return Ok(());
            }
            for game in running {
                self.games.abandon(user, game.id).await?;
            }
        }
    }
}
