//! Secures a database that was restored from a backup. The database lacks what has happened since
//! the backup, such as logouts and rotations, so nothing that was issued before is trusted.

use std::time::Duration;

use access::view::Epoch;
use base::clock::Clock;
use db::{Db, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed,
        keys::{ring, secret::ServerSecrets},
        request_context::RequestContext,
    },
    model::{FeedKind, SessionEnd},
    store,
};

/// Counts of what a restore has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Number of sessions that ended.
    pub(crate) sessions: usize,
}

/// Starts a new epoch of the access feed, ends every session, and replaces the signing keys, so
/// that no earlier access token is accepted, whatever its content. Does all of this or nothing.
pub(crate) async fn after_restore(db: &Db, secrets: &ServerSecrets, clock: &Clock) -> Result<Restored, Error> {
    let context = RequestContext::command_line();
    write_tx!(db, |tx| {
        // The feed is created if no service has used this database yet. A service records the
        // lifetime of its tokens when it starts.
        feed::prepare(tx, Duration::ZERO).await?;
        feed::hold(tx).await?;
        let now = clock.now();
        let sessions = store::sessions_end_of_all_users(tx, SessionEnd::Restored, now).await?;
        let keys = ring::replace_all(tx, secrets, now).await?;
        AuditEvent::new("deployment.restore")
            .detail("sessions", sessions)
            .record(tx, &context, now)
            .await?;
        store::feed_restart(tx, Epoch::generate(), FeedKind::UserChanged).await?;
        feed::sync(tx, &keys, now).await?;
        Ok(Restored { sessions })
    })
}
