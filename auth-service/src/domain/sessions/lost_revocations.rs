//! Restores revocations that the database has lost.
//!
//! If an asynchronous standby is promoted that lacks the last commits, the database has lost
//! logouts that were acknowledged. A process that followed the access feed before still knows them.
//! It goes on refusing those tokens itself. It also writes the revocations into the new history, so
//! that the sessions end there and all followers learn of it. Every replica that knows them does
//! so, and skips those that are already there.

use std::time::Duration;

use ::proto::auth::v1 as proto;
use access::view::AccessView;
use base::{
    clock::Clock,
    ids::{SessionId, UserId},
};
use db::{Conn, Db, write_tx};
use prost::Message as _;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        feed::{self, Change},
        keys::ring::KeyRing,
        request_context::RequestContext,
        sessions::ends,
    },
    model::{FeedKind, SessionEnd},
    store,
};

/// Pause before a failed attempt is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Restores revocations that this process knows and the database has lost.
#[derive(Clone, Debug)]
pub(crate) struct LostRevocations {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) keys: KeyRing,
    pub(crate) access: AccessView,
}

impl LostRevocations {
    /// Waits until the feed goes back to before what the view knows, and restores what is lost.
    /// Runs forever.
    pub(crate) async fn follow(self) {
        let mut went_back = self.access.went_back();
        loop {
            // This cannot fail, because the view holds the sender.
            let _ = went_back.changed().await;
            while let Err(error) = self.restore().await {
                tracing::warn!(%error, "cannot restore revocations that the database has lost; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn restore(&self) -> Result<(), Error> {
        let lost = self.access.lost();
        for kid in &lost.keys {
            self.keys.withdraw_again(kid).await?;
        }
        for id in &lost.sessions {
            self.restore_session_end(*id).await?;
        }
        for (id, min_version) in &lost.users {
            self.restore_user_revocation(*id, *min_version).await?;
        }
        tracing::warn!(
            sessions = lost.sessions.len(),
            users = lost.users.len(),
            keys = lost.keys.len(),
            "restored revocations that the database had lost"
        );
        Ok(())
    }

    /// Ends a session whose end was lost, and publishes the end.
    async fn restore_session_end(&self, id: SessionId) -> Result<(), Error> {
        let context = RequestContext::itself();
        write_tx!(self.db, |tx| {
            if let Some(session) = store::session_by_id(tx, id).await? {
                store::user_lock(tx, session.user_id).await?;
            }
            // Read again, because it may have changed before the lock was taken. A session that
            // began in the lost part of the history is not stored at all.
            let session = store::session_lock(tx, id).await?;
            let live = session.filter(|session| !session.has_ended());
            let now = self.clock.now();
            let change = match live {
                Some(session) => ends::end(tx, &context, session.key(), SessionEnd::Restored, now).await?,
                None if published(tx, FeedKind::SessionRevoked, &id.to_string())
                    .await?
                    .is_some() =>
                {
                    return Ok(());
                }
                None => Change::SessionRevoked(id),
            };
            feed::publish(tx, vec![change], now).await?;
            Ok(())
        })
    }

    /// Refuses all earlier tokens of a user again, and ends the user's sessions. The database has
    /// also lost which of them were meant to go on.
    async fn restore_user_revocation(&self, id: UserId, min_version: i64) -> Result<(), Error> {
        let context = RequestContext::itself();
        write_tx!(self.db, |tx| {
            let now = self.clock.now();
            let Some(user) = store::user_lock(tx, id).await? else {
                if published_version(tx, id).await? < Some(min_version) {
                    let user_id = id;
                    feed::publish(tx, vec![Change::UserTokensRevoked { user_id, min_version }], now).await?;
                }
                return Ok(());
            };
            if user.token_version >= min_version && published_version(tx, id).await? >= Some(min_version) {
                return Ok(());
            }
            // The new version is above those of both histories, because tokens from either may
            // carry its last version.
            let min_version = min_version.max(user.token_version + 1);
            store::user_set_token_version(tx, id, min_version).await?;
            let sessions = store::sessions_end_all(tx, id, None, SessionEnd::Restored, now).await?;
            counts::sessions_ended(SessionEnd::Restored, sessions);
            AuditEvent::new("session.revoke_all")
                .user(id)
                .detail("reason", SessionEnd::Restored.as_str())
                .detail("sessions", sessions)
                .record(tx, &context, now)
                .await?;
            let user_id = id;
            feed::publish(tx, vec![Change::UserTokensRevoked { user_id, min_version }], now).await?;
            Ok(())
        })
    }
}

/// Reads the event of this kind about this subject from the feed.
async fn published(tx: &mut Conn, kind: FeedKind, subject: &str) -> db::Result<Option<proto::access_event::Event>> {
    let stored = store::feed_event(tx, kind, subject).await?;
    let stored = stored.and_then(|event| proto::AccessEvent::decode(event.as_slice()).ok());
    Ok(stored.and_then(|stored| stored.event))
}

/// Returns the lowest token version of a user that is accepted according to the feed.
async fn published_version(tx: &mut Conn, id: UserId) -> db::Result<Option<i64>> {
    let event = published(tx, FeedKind::UserTokensRevoked, &id.to_string()).await?;
    Ok(match event {
        Some(proto::access_event::Event::UserTokensRevoked(revoked)) => Some(revoked.min_version),
        _ => None,
    })
}
