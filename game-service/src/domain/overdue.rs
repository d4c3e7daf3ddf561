//! Games whose time has run out.
//!
//! A request that touches such a game ends it. This job ends the games that no request touches.

use base::clock::Timestamp;

use super::{Error, Games};
use crate::{ids::GameId, store};

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
            let due = store::games_due(&mut self.db.read().await?, settled.past(), after, BATCH).await?;
            let Some((time, id, _)) = due.last() else {
                return failed.map_or(Ok(()), Err);
            };
            after = Some((*time, *id));
            if lease.is_none() {
                lease = self.db.try_lease(LEASE).await?;
            }
            if lease.is_none() {
                return Ok(());
            }
            let is_over = |expire: Option<Timestamp>| expire.is_none_or(|time| time <= settled.past());
            let (overdue, moved_on): (Vec<_>, Vec<_>) = due.into_iter().partition(|(.., expire)| is_over(*expire));
            let moved_on: Vec<GameId> = moved_on.into_iter().map(|(_, id, _)| id).collect();
            if !moved_on.is_empty() {
                store::games_postpone(&mut self.db.write().await?, &moved_on).await?;
            }
            for (_, id, _) in &overdue {
                if let Err(error) = self.end_overdue(*id).await {
                    tracing::warn!(game = %id, %error, "cannot end a game whose time has run out");
                    failed = Some(error);
                }
            }
            if !overdue.is_empty() {
                tracing::info!(games = overdue.len(), "ended games whose time has run out");
            }
        }
    }
}
