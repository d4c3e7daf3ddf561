//! Imported password hashes that are left, and the removal of those that nobody uses.
//!
//! While there is one, every refused login takes as long as the slowest of them. The first login of
//! a user replaces the hash, but some users never log in again.

use std::collections::HashMap;

use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
};
use db::{Db, write_tx};
use secrecy::ExposeSecret as _;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        passwords::{hashing::HashingPool, imported::is_imported},
        request_context::RequestContext,
    },
    model::User,
    store,
};

const ACTION: &str = "user.remove_imported_password";
/// Maximum number of hashes that are removed in one transaction.
const BATCH: i64 = 100;

/// Password hashes that were imported from another system.
#[derive(Debug)]
pub(crate) struct ImportedPasswords {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) hashing: HashingPool,
}

/// Number of imported hashes of one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemeCount {
    /// Scheme with its parameters.
    pub(crate) scheme: String,
    pub(crate) all: i64,
    /// Number of those that have not been used for some time.
    pub(crate) unused: i64,
}

/// Hashes that were removed in one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemovedBatch {
    /// User with the highest id among those that were looked at.
    pub(crate) last: UserId,
    pub(crate) removed: u64,
}

impl ImportedPasswords {
    /// Counts the imported hashes of each scheme. Those are unused whose users were imported before
    /// `since` and have not logged in from then on.
    pub(crate) async fn counts(&self, since: Timestamp) -> Result<Vec<SchemeCount>, Error> {
        let mut conn = self.db.read().await?;
        let unused = store::imported_password_counts_unused(&mut conn, since).await?;
        let unused: HashMap<String, i64> = unused.into_iter().collect();
        let all = store::imported_password_counts(&mut conn).await?;
        let counts = all.into_iter().map(|(scheme, all)| SchemeCount {
            unused: unused.get(&scheme).copied().unwrap_or_default(),
            scheme,
            all,
        });
        Ok(counts.collect())
    }

    /// Removes some of the unused hashes, those of users with ids above `after`. These users need a
    /// new password. Returns `None` if there are none.
    pub(crate) async fn remove_unused(
        &self,
        since: Timestamp,
        after: Option<UserId>,
    ) -> Result<Option<RemovedBatch>, Error> {
        let ids = store::imported_passwords_unused(&mut self.db.read().await?, since, after, BATCH).await?;
        let Some(last) = ids.last().copied() else {
            return Ok(None);
        };
        let removed: Result<u64, Error> = write_tx!(self.db, |tx| {
            let mut removed = 0;
            for id in &ids {
                // The user may have logged in or got another password meanwhile.
                let user = store::user_lock(tx, *id).await?;
                let Some(user) = user.filter(|user| is_unused(user, since)) else {
                    continue;
                };
                store::imported_password_replace(tx, user.id, &self.hashing.unusable()?).await?;
                AuditEvent::new(ACTION)
                    .user(user.id)
                    .record(tx, &RequestContext::command_line(), self.clock.now())
                    .await?;
                removed += 1;
            }
            Ok(removed)
        });
        Ok(Some(RemovedBatch {
            last,
            removed: removed?,
        }))
    }
}

fn is_unused(user: &User, since: Timestamp) -> bool {
    let is_before = |time: Option<Timestamp>| time.is_none_or(|time| time < since);
    is_imported(user.password_hash.expose_secret()) && is_before(user.import_time) && is_before(user.last_login_time)
}
