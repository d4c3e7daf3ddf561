//! Deletion of a guest by the guest, who has no password to confirm it with.

use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        guests::credential::{CredentialVerdict, PresentedCredential},
        request_context::RequestContext,
        users::{accounts::Accounts, deletion::ACTION},
    },
    store,
};

impl Accounts {
    /// Deletes the actor, after a check of their credential.
    pub(crate) async fn delete_me_as_guest(&self, context: &RequestContext, credential: &str) -> Result<(), Error> {
        // Not against guesses, which are hopeless, but to limit the work.
        self.attempts.admit_login(context)?;
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let presented = PresentedCredential::parse(credential).filter(|presented| presented.user_id == id);
        let (_, verdict) = self.verify_guest(presented.as_ref()).await?;
        if verdict == CredentialVerdict::Wrong {
            return self.refuse_deletion(context).await;
        }
        let is_deleted: Result<bool, Error> = write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            // The account may have been upgraded meanwhile.
            if store::guest_credential(tx, user.id).await?.is_none() {
                return Ok(false);
            }
            self.delete(tx, context, user.id).await?;
            Ok(true)
        });
        if is_deleted? {
            Ok(())
        } else {
            self.refuse_deletion(context).await
        }
    }

    async fn refuse_deletion(&self, context: &RequestContext) -> Result<(), Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            let event = AuditEvent::new(ACTION).user(id).refused("CURRENT_PASSWORD_WRONG");
            event.record(tx, context, self.clock.now()).await?;
            Ok(())
        });
        audited?;
        Err(Error::CurrentPasswordWrong)
    }
}
