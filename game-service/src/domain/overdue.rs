//! Games whose time has run out.
//!
//! Whoever touches such a game ends it; this ends those that nobody touches.

use super::{Error, Games};
use crate::store;

/// "overdue" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"\0overdue");
/// Games that are read at a time.
const BATCH: i64 = 100;

impl Games {
    /// Ends every game whose time has run out, unless another replica is at it. A game that cannot
    /// be ended does not keep the others from it. Waits while the clock cannot be relied on: a game
    /// that was ended by a wrong one is lost for good.
    pub(crate) async fn end_all_overdue(&self) -> Result<(), Error> {
        let (mut lease, mut after, mut failed) = (None, None, None);
        let Some(settled) = self.db.settled(&self.clock).await? else {
            return Ok(());
        };
        loop {
            let overdue = store::games_overdue(&mut self.db.read().await?, settled.past(), after, BATCH).await?;
            let Some(last) = overdue.last() else {
                return failed.map_or(Ok(()), Err);
            };
            after = Some(*last);
            if lease.is_none() {
                lease = self.db.try_lease(LEASE).await?;
            }
            if lease.is_none() {
                return Ok(());
            }
            for (_, id) in &overdue {
                if let Err(error) = self.end_overdue(*id).await {
                    tracing::warn!(game = %id, %error, "cannot end a game whose time has run out");
                    failed = Some(error);
                }
            }
            tracing::info!(games = overdue.len(), "ended games whose time has run out");
        }
    }
}
