//! Deletion of guests who have been idle for too long.
//!
//! A rotation or a refresh writes only to its session, so the guest's own rows do not show the last
//! use. Instead, each guest has a time of the next check. The check finds the last use in the
//! sessions, which are kept for at least a day after their end. Then it deletes the guest, or
//! postpones the next check.

use base::{clock::Timestamp, ids::UserId};
use db::write_tx;

use crate::{
    domain::{counts, error::Error, request_context::RequestContext, users::accounts::Accounts},
    store,
};

/// Number of guests that are read in one query.
const BATCH: i64 = 100;
/// Key of the lease for this job: "guests" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"\0\0guests");

impl Accounts {
    /// Deletes the guests who have been idle for too long, unless another replica holds the lease.
    /// Does nothing while the clock cannot be relied on.
    pub(crate) async fn delete_idle_guests(&self) -> Result<(), Error> {
        if self.guests.max_idle.is_none() {
            return Ok(());
        }
        let (mut lease, mut from, mut before, mut deleted) = (None, Timestamp::EPOCH, Vec::new(), 0);
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                break;
            };
            let due = store::guests_due(&mut self.db.read().await?, from, settled.past(), BATCH).await?;
            // If the same guests come again, their check could not be postponed. The next run tries
            // again.
            let Some((_, last)) = due.last().filter(|_| due != before) else {
                break;
            };
            from = *last;
            if lease.is_none() {
                lease = self.db.try_lease(LEASE).await?;
            }
            if lease.is_none() {
                break;
            }
            for (id, _) in &due {
                if self.check_guest(*id, settled.past()).await? {
                    deleted += 1;
                }
            }
            before = due;
            // With a fast disk, the queries never suspend this task. Yielding lets others run
            // between batches.
            tokio::task::yield_now().await;
        }
        if deleted > 0 {
            tracing::info!(guests = deleted, "deleted guests who had been idle for too long");
        }
        Ok(())
    }

    /// Deletes a guest who has been idle for too long by `past`, or postpones the next check.
    /// Returns whether the guest was deleted.
    async fn check_guest(&self, id: UserId, past: Timestamp) -> Result<bool, Error> {
        let Some(max_idle) = self.guests.max_idle else {
            return Ok(false);
        };
        let is_deleted: Result<bool, Error> = write_tx!(self.db, |tx| {
            let user = store::user_lock(tx, id)
                .await?
                .filter(|user| !user.is_deleted() && user.is_guest);
            let credential = store::guest_credential(tx, id).await?;
            let (Some(user), Some(credential)) = (user, credential) else {
                // An older version of this program has deleted the guest.
                store::guest_credential_delete(tx, id).await?;
                return Ok(false);
            };
            let in_sessions = store::sessions_last_use_time(tx, id).await?;
            let used = [user.last_login_time, in_sessions].into_iter().flatten();
            let used = used.fold(credential.use_time, Timestamp::max);
            if used.plus(max_idle) > past {
                store::guest_postpone(tx, id, used, self.next_guest_check(used, past)).await?;
                return Ok(false);
            }
            self.delete(tx, &RequestContext::itself(), id).await?;
            Ok(true)
        });
        let is_deleted = is_deleted?;
        if is_deleted {
            counts::guest("deleted_idle");
        }
        Ok(is_deleted)
    }

    /// Returns the time of the next check of a guest whose account was last used at `used`. A
    /// session that ends now is deleted only after that check, which reads its last use.
    pub(in crate::domain) fn next_guest_check(&self, used: Timestamp, now: Timestamp) -> Timestamp {
        let seen = now.plus(self.sessions.lifetimes.retention);
        match self.guests.max_idle {
            Some(max_idle) => used.plus(max_idle).min(seen),
            None => seen,
        }
    }
}
