//! Lists and ends sessions, for their users and for administrators. Also ends and purges expired
//! sessions.

use std::collections::BTreeSet;

use base::{
    clock::Timestamp,
    ids::{SessionId, SessionKind, UserId},
    page::{PageRequest, Position},
};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed,
        rbac::authority,
        request_context::RequestContext,
        sessions::{ends, lifecycle::Sessions, revocation},
    },
    model::{Session, SessionEnd, User},
    store::{self, Dead, DueSession},
};

/// Number of sessions that a purge deletes in one transaction.
const PURGE_BATCH: i64 = 100;

impl Sessions {
    /// Lists a page of the user's sessions, the most recently used first, with the token of the
    /// next page. `query` identifies the list to which page tokens belong.
    pub(crate) async fn list(
        &self,
        user_id: UserId,
        page: &PageRequest<SessionKind>,
        show_ended: bool,
        query: &str,
    ) -> Result<(Vec<Session>, String), Error> {
        let live_at = (!show_ended).then(|| self.clock.now());
        let mut conn = self.db.read().await?;
        let mut sessions = store::sessions_list(&mut conn, user_id, live_at, page).await?;
        let next = page.cut(&mut sessions, query, |session| Position {
            time: session.last_use_time,
            id: session.id,
        });
        Ok((sessions, next))
    }

    /// Does the same as [`list`](Self::list), but fails if there is no such user.
    pub(crate) async fn list_of_user(
        &self,
        user_id: UserId,
        page: &PageRequest<SessionKind>,
        show_ended: bool,
        query: &str,
    ) -> Result<(Vec<Session>, String), Error> {
        let mut conn = self.db.read().await?;
        let user = store::user_by_id(&mut conn, user_id).await?;
        user.filter(User::is_person).ok_or(Error::UserNotFound)?;
        drop(conn);
        self.list(user_id, page, show_ended, query).await
    }

    /// Ends a session of the actor.
    pub(crate) async fn revoke_own(&self, context: &RequestContext, id: SessionId) -> Result<(), Error> {
        let user_id = context.user_id().ok_or(Error::SessionNotFound)?;
        write_tx!(self.db, |tx| {
            store::user_lock(tx, user_id).await?.ok_or(Error::SessionNotFound)?;
            authority::ensure_still_good(tx, context).await?;
            self.revoke_locked(tx, context, user_id, id).await
        })
    }

    /// Ends a session of a user.
    pub(crate) async fn revoke_of_user(
        &self,
        context: &RequestContext,
        user_id: UserId,
        id: SessionId,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("session.revoke")
            .target("session", id)
            .concerning(user_id);
        recording_refusals(self, context, event, async {
            write_tx!(self.db, |tx| {
                let user = store::user_lock(tx, user_id).await?;
                user.filter(User::is_person).ok_or(Error::UserNotFound)?;
                authority::ensure_may_act_on(tx, context, user_id).await?;
                self.revoke_locked(tx, context, user_id, id).await
            })
        })
        .await
    }

    /// Logs the actor out everywhere. Returns how many sessions ended.
    pub(crate) async fn revoke_all_own(&self, context: &RequestContext) -> Result<usize, Error> {
        let user_id = context.user_id().ok_or(Error::UserNotFound)?;
        write_tx!(self.db, |tx| {
            store::user_lock(tx, user_id).await?.ok_or(Error::UserNotFound)?;
            authority::ensure_still_good(tx, context).await?;
            revoke_all_locked(tx, context, user_id, self.clock.now()).await
        })
    }

    /// Logs a user out everywhere. Returns how many sessions ended.
    pub(crate) async fn revoke_all_of_user(&self, context: &RequestContext, user_id: UserId) -> Result<usize, Error> {
        let event = AuditEvent::new("session.revoke_all").user(user_id);
        recording_refusals(self, context, event, async {
            write_tx!(self.db, |tx| {
                let user = store::user_lock(tx, user_id).await?;
                user.filter(User::is_person).ok_or(Error::UserNotFound)?;
                authority::ensure_may_act_on(tx, context, user_id).await?;
                revoke_all_locked(tx, context, user_id, self.clock.now()).await
            })
        })
        .await
    }

    /// Ends the sessions that have expired, so that they stay expired if the clock is set back.
    pub(crate) async fn end_expired(&self) -> Result<(), Error> {
        let (mut from, mut before) = (Timestamp::EPOCH, Vec::new());
        loop {
            let mut conn = self.db.read().await?;
            let Some(settled) = conn.settled(&self.clock).await? else {
                return Ok(());
            };
            let due = store::sessions_due(&mut conn, from, settled.past(), PURGE_BATCH).await?;
            drop(conn);
            // If the same sessions come again, they could not be ended. The next run tries again.
            let Some(last) = due.last().filter(|_| due != before) else {
                return Ok(());
            };
            from = last.sweep_time;
            let is_over = |session: &&DueSession| session.expire_time <= settled.past();
            let (expired, renewed): (Vec<&DueSession>, Vec<&DueSession>) = due.iter().partition(is_over);
            if !renewed.is_empty() {
                let renewed: Vec<SessionId> = renewed.into_iter().map(|session| session.id).collect();
                store::sessions_postpone(&mut self.db.write().await?, &renewed).await?;
            }
            for session in expired {
                self.end_if_expired(&RequestContext::itself(), session.id).await?;
            }
            before = due;
        }
    }

    /// Deletes the sessions that ended or expired longer ago than they are kept. Returns how many.
    pub(crate) async fn purge(&self) -> Result<usize, Error> {
        Ok(self.purge_dead(Dead::Ended).await? + self.purge_dead(Dead::Expired).await?)
    }

    async fn purge_dead(&self, dead: Dead) -> Result<usize, Error> {
        let (mut from, mut purged) = (Timestamp::EPOCH, 0);
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(purged);
            };
            let before = settled.past().minus(self.lifetimes.retention);
            let batch: Result<_, Error> = write_tx!(self.db, |tx| {
                let found = store::sessions_dead(tx, dead, from, before, PURGE_BATCH).await?;
                // Rows are locked in the order of their ids, as everywhere.
                let ids: BTreeSet<SessionId> = found.iter().map(|(id, _)| *id).collect();
                for id in ids {
                    store::session_delete(tx, id).await?;
                }
                Ok(found)
            });
            let batch = batch?;
            let Some((_, last)) = batch.last() else {
                return Ok(purged);
            };
            (from, purged) = (*last, purged + batch.len());
            // With a fast disk, the queries never suspend this task. Yielding lets others run
            // between batches.
            tokio::task::yield_now().await;
        }
    }

    async fn revoke_locked(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user_id: UserId,
        id: SessionId,
    ) -> Result<(), Error> {
        let session = store::session_by_id(tx, id).await?;
        let session = session.filter(|session| session.user_id == user_id);
        let session = session.ok_or(Error::SessionNotFound)?;
        if session.has_ended() {
            return Ok(feed::settle(tx).await?);
        }
        let now = self.clock.now();
        let change = ends::end(tx, context, session.key(), SessionEnd::Revoked, now).await?;
        Ok(feed::publish(tx, vec![change], now).await?)
    }
}

async fn revoke_all_locked(
    tx: &mut Conn,
    context: &RequestContext,
    user_id: UserId,
    now: Timestamp,
) -> Result<usize, Error> {
    let revoked = revocation::log_out_everywhere(tx, user_id, None, SessionEnd::Revoked, now).await?;
    let event = AuditEvent::new("session.revoke_all").user(user_id);
    let audited: db::Result<()> = event
        .detail("sessions", revoked.sessions)
        .record(tx, context, now)
        .await;
    audited?;
    feed::publish(tx, vec![revoked.change], now).await?;
    Ok(revoked.sessions)
}
