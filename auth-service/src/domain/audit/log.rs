//! Reads the audit log, and lets what is too old go.

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

/// Events that are deleted in one transaction.
const PURGE_BATCH: i64 = 500;

/// The use cases of the audit log.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// How long events are kept; `None`: for ever.
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

    /// Deletes what is older than the retention, batch by batch.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        let Some(retention) = self.retention else {
            return Ok(());
        };
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let before = settled.past().minus(retention);
            let deleted: Result<usize, Error> =
                write_tx!(self.db, |tx| Ok(
                    store::audit_delete_before(tx, before, PURGE_BATCH).await?
                ));
            if deleted? == 0 {
                return Ok(());
            }
            // A quick disk is waited for in place: without this, nothing else had this thread until
            // the last batch.
            tokio::task::yield_now().await;
        }
    }
}
