//! Moves that the version before kept in a table of their own.

use std::time::Duration;

use super::Games;
use crate::store;

/// "moves" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"\0\0\0moves");
/// Games whose moves are taken over at a time.
const BATCH: i64 = 500;

impl Games {
    /// Moves the moves of all games into the games' rows, one batch after the other with a pause in
    /// between. Returns when none are left. Games work before as well as after it.
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
                // Once more from the beginning, for games that were being changed.
                Ok(Some(None)) => after = None,
                Ok(Some(last)) => after = last,
                // Another replica does it. It may end before it is done.
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot take over moves of the version before"),
            }
            tokio::time::sleep(pause).await;
        }
    }
}
