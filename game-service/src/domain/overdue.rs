//! Games whose time has run out.
//!
//! A request that touches such a game ends it. This job ends the games that no request touches.

use super::{Error, Games};
use crate::store;

/// Key of the lease for this job: "overdue" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"\0overdue");
/// Number of games that are read in one query.
const BATCH: i64 = 100;

impl Games {
    /// Ends every game whose time has run out, unless another replica holds the lease. A game that
    /// cannot be ended does not stop the others, and its error is returned at the end. Does nothing
    /// while the clock cannot be relied on, since a game that was ended by mistake cannot be
    /// restored.
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
