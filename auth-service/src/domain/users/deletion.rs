//! Deletion of users. The row stays, anonymous, so that its id is never used again. The login and
//! the address become free for others.
//!
//! Other services learn of it through the access feed, and make what the user did there anonymous.

use base::ids::UserId;
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        passwords::{changes::ensure_still_verified, password::Password},
        rbac::authority,
        request_context::RequestContext,
        sessions::revocation,
        users::{accounts::Accounts, people::user_lock_person},
    },
    model::SessionEnd,
    store,
};

pub(in crate::domain) const ACTION: &str = "user.delete";

impl Accounts {
    /// Deletes the actor, after a check of their password.
    pub(crate) async fn delete_me(&self, context: &RequestContext, password: Password) -> Result<(), Error> {
        let found = self.verify_actor(context, password, ACTION).await?;
        write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            ensure_still_verified(&user, &found)?;
            self.delete(tx, context, user.id).await
        })
    }

    /// Deletes a user.
    pub(crate) async fn delete_user(&self, context: &RequestContext, id: UserId) -> Result<(), Error> {
        let event = AuditEvent::new(ACTION).user(id);
        recording_refusals(self, context, event, async {
            if context.user_id() == Some(id) {
                return Err(Error::OwnAccount);
            }
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                authority::ensure_may_act_on(tx, context, id).await?;
                self.delete(tx, context, user.id).await
            })
        })
        .await
    }

    /// Deletes a user whose row is locked.
    pub(in crate::domain) async fn delete(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        id: UserId,
    ) -> Result<(), Error> {
        authority::ensure_not_last_superuser(tx, id).await?;
        let now = self.clock.now();
        let revoked = revocation::log_out_everywhere(tx, id, None, SessionEnd::UserDeleted, now).await?;
        store::sessions_forget_origins(tx, id).await?;
        store::user_anonymize(tx, id, now).await?;
        AuditEvent::new(ACTION).user(id).record(tx, context, now).await?;
        feed::publish(tx, vec![revoked.change, Change::UserDeleted(id)], now).await?;
        Ok(())
    }
}
