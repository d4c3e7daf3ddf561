//! Reads the audit log, and deletes its old entries.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use base::{
    clock::Clock,
    ids::UserId,
    page::{PageRequest, Position},
};
use db::{Db, write_tx};

use crate::{
    domain::error::Error,
    ids::AuditEventKind,
    model::{AuditEntry, AuditFilter},
    store,
};

/// Number of entries that are deleted in one transaction.
const PURGE_BATCH: i64 = 500;

/// The use cases of the audit log.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// How long entries are kept; `None` means forever.
    pub(crate) retention: Option<Duration>,
}

impl AuditLog {
    /// Returns a page of entries, the logins of the users in them, and the token of the next page.
    pub(crate) async fn list(
        &self,
        page: &PageRequest<AuditEventKind>,
        filter: &AuditFilter,
        query: &str,
    ) -> Result<(Vec<AuditEntry>, HashMap<UserId, String>, String), Error> {
        let mut conn = self.db.scan().await?;
        let mut events = store::audit_list(&mut conn, page, filter).await?;
        let next = page.cut(&mut events, query, |event| Position {
            time: event.event_time,
            id: event.id,
        });
        let users = events
            .iter()
            .flat_map(|event| [event.actor_user_id, event.subject_user_id]);
        let users: BTreeSet<UserId> = users.flatten().collect();
        let logins = store::user_logins(&mut conn, users.into_iter().collect()).await?;
        Ok((events, logins.into_iter().collect(), next))
    }

    /// Deletes the entries that are older than the retention, batch by batch.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        let Some(retention) = self.retention else {
            return Ok(());
        };
        let mut after = None;
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let before = settled.past().minus(retention);
            let deleted: Result<_, Error> = write_tx!(self.db, |tx| Ok(store::audit_delete_before(
                tx,
                after,
                before,
                PURGE_BATCH
            )
            .await?));
            let Some(last) = deleted? else {
                return Ok(());
            };
            after = Some(last);
            // With a fast disk, the queries never suspend this task. Yielding lets others run
            // between batches.
            tokio::task::yield_now().await;
        }
    }
}
