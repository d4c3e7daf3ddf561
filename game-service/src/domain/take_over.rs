//! Migration of moves that the previous version stored in a table of their own.

use std::time::Duration;

use super::Games;
use crate::store;

/// Key of the lease for this job: "moves" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"\0\0\0moves");
/// Number of games whose moves are migrated at a time.
const BATCH: i64 = 500;

impl Games {
    /// Migrates the moves of all games into the games' rows, in batches with a pause in between.
    /// Returns when none are left. Games can be played meanwhile.
    pub(crate) async fn take_over_moves(self, pause: Duration) {
        let (mut lease, mut after) = (None, None);
        loop {
            let taken = async {
                if lease.is_none() {
                    lease = self.db.try_lease(LEASE).await?;
                }
                match lease {
                    Some(_) => store::moves_take_over(&self.db, after, BATCH).await.map(Some),
                    None => Ok(None),
                }
            };
            match taken.await {
                Ok(Some(None)) if after.is_none() => return,
                // Start again from the beginning, for games that were being changed.
                Ok(Some(None)) => after = None,
                Ok(Some(last)) => after = last,
                // Another replica holds the lease. It may stop before it has finished.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot migrate moves that the previous version stored; trying again");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}
