//! After a database was put back from a back-up: what has happened since the back-up is not in it,
//! such as logouts and rotations, so nothing that was issued before is trusted.

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

/// Counts of what was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// How many sessions ended.
    pub(crate) sessions: usize,
}

/// Begins a new life of the access feed, ends every session, and replaces the signing keys, so that
/// no access token from before is good whatever it says. All of it, or nothing.
pub(crate) async fn after_restore(db: &Db, secrets: &ServerSecrets, clock: &Clock) -> Result<Restored, Error> {
    let context = RequestContext::command_line();
    write_tx!(db, |tx| {
        // Also where nothing has served this database yet. How long tokens live is for whoever
        // serves it to say.
        feed::prepare(tx, Duration::ZERO).await?;
        feed::hold(tx).await?;
        let now = clock.now();
        let sessions = store::sessions_end_everybodys(tx, SessionEnd::Restored, now).await?;
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
