//! Results that a replica of the previous version has written during an upgrade. It counts every
//! game, even those of guests.

use base::ids::UserId;
use db::write_tx;

use super::{Error, Game, GameView, Games, recompute::renew_stats};
use crate::{ids::GameId, store};

/// Key of the lease for this job: "guests" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"\0\0guests");
/// Number of games that are read in one query.
const BATCH: i64 = 100;

impl Games {
    /// Takes games of guests off the leaderboard that a replica of the previous version has
    /// counted, unless another replica holds the lease.
    pub(crate) async fn settle_older_results(&self) -> Result<(), Error> {
        let mut lease = None;
        loop {
            let games = store::older_results_list(&mut self.db.read().await?, BATCH).await?;
            if games.is_empty() {
                return Ok(());
            }
            if lease.is_none() {
                lease = self.db.try_lease(LEASE).await?;
            }
            if lease.is_none() {
                return Ok(());
            }
            let mut failed = None;
            for id in games {
                // One unreadable game must not keep the others from being settled.
                if let Err(error) = self.settle_older_result(id).await {
                    failed = Some(error);
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    async fn settle_older_result(&self, id: GameId) -> Result<(), Error> {
        write_tx!(self.db, |tx| {
            let Some(row) = store::game_lock(tx, id).await? else {
                return Ok(());
            };
            let view = GameView::of_games(tx, vec![Game::from_row(&row)?]).await?;
            let Some(GameView { game, .. }) = view.into_iter().next() else {
                return Ok(());
            };
            store::older_results_settle(tx, id, game.is_ranked).await?;
            if !game.is_ranked {
                let mut players: Vec<UserId> = [game.x, game.o].into_iter().flatten().collect();
                players.sort_unstable();
                for player in players {
                    renew_stats(tx, player).await?;
                }
                tracing::info!(game = %id, "took a game of a guest off the leaderboard, which an older \
                    version had counted");
            }
            Ok(())
        })
    }
}
