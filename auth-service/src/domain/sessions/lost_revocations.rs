//! Writes revocations into the database that it has lost.
//!
//! After an asynchronous standby was promoted that lacked the last commits, the database knows
//! nothing of logouts that were acknowledged. A process that followed the access feed before does:
//! it goes on refusing those tokens by itself, and writes what it knows into the new history, so
//! that the sessions are over there too and everybody else learns of it. Every replica that knows
//! does it; what is there already is left alone.

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

/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Writes what this process knows and the database has lost.
#[derive(Clone, Debug)]
pub(crate) struct LostRevocations {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) keys: KeyRing,
    pub(crate) access: AccessView,
}

impl LostRevocations {
    /// Waits for the feed to go back to before what the view knows, and writes what is lost;
    /// forever.
    pub(crate) async fn follow(self) {
        let mut went_back = self.access.went_back();
        loop {
            // An error would mean that the sender is gone, and the view holds it.
            let _ = went_back.changed().await;
            while let Err(error) = self.write().await {
                tracing::warn!(%error, "cannot restore revocations that the database has lost; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn write(&self) -> Result<(), Error> {
        let lost = self.access.lost();
        for kid in &lost.keys {
            self.keys.withdraw_again(kid).await?;
        }
        for id in &lost.sessions {
            self.write_session(*id).await?;
        }
        for (id, min_version) in &lost.users {
            self.write_user(*id, *min_version).await?;
        }
        tracing::warn!(
            sessions = lost.sessions.len(),
            users = lost.users.len(),
            keys = lost.keys.len(),
            "restored revocations that the database had lost"
        );
        Ok(())
    }

    /// Ends a session that had ended, and makes it known.
    async fn write_session(&self, id: SessionId) -> Result<(), Error> {
        let context = RequestContext::itself();
        write_tx!(self.db, |tx| {
            if let Some(session) = store::session_by_id(tx, id).await? {
                store::user_lock(tx, session.user_id).await?;
            }
            // Again, since it may have changed before the lock was ours. One that began in what was
            // lost is not there at all.
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

    /// Refuses every token of a user from before, as it was, and ends their sessions: which of them
    /// were meant to go on is lost as well.
    async fn write_user(&self, id: UserId, min_version: i64) -> Result<(), Error> {
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
            // Above both histories: a token of either may carry their last version.
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

/// Reads the event of this kind that the feed has about this subject.
async fn published(tx: &mut Conn, kind: FeedKind, subject: &str) -> db::Result<Option<proto::access_event::Event>> {
    let stored = store::feed_event(tx, kind, subject).await?;
    let stored = stored.and_then(|event| proto::AccessEvent::decode(event.as_slice()).ok());
    Ok(stored.and_then(|stored| stored.event))
}

/// The least version that the feed demands of a user's tokens.
async fn published_version(tx: &mut Conn, id: UserId) -> db::Result<Option<i64>> {
    let event = published(tx, FeedKind::UserTokensRevoked, &id.to_string()).await?;
    Ok(match event {
        Some(proto::access_event::Event::UserTokensRevoked(revoked)) => Some(revoked.min_version),
        _ => None,
    })
}
