//! Proof that the actor is the guest, by the credential that the device keeps. A guest has no
//! password.

use db::write_tx;

use crate::domain::{
    audit::event::AuditEvent,
    error::Error,
    guests::credential::{CredentialVerdict, PresentedCredential},
    request_context::RequestContext,
    users::accounts::Accounts,
};

impl Accounts {
    /// Verifies the actor's guest credential. A wrong one is recorded in the audit log as a refusal
    /// of `action`.
    pub(in crate::domain) async fn verify_actor_as_guest(
        &self,
        context: &RequestContext,
        credential: &str,
        action: &'static str,
    ) -> Result<(), Error> {
        // Not against guesses, which are hopeless, but to limit the work.
        self.attempts.admit_login(context)?;
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let presented = PresentedCredential::parse(credential).filter(|presented| presented.user_id == id);
        match self.verify_guest(presented.as_ref()).await? {
            (_, CredentialVerdict::Wrong) => Err(self.refuse_actor_as_guest(context, action).await),
            (_, CredentialVerdict::Right | CredentialVerdict::RightButOutdated(_)) => Ok(()),
        }
    }

    /// Records a wrong credential of the actor, and returns the error.
    pub(in crate::domain) async fn refuse_actor_as_guest(
        &self,
        context: &RequestContext,
        action: &'static str,
    ) -> Error {
        let Some(id) = context.user_id() else {
            return Error::UserNotFound;
        };
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            let event = AuditEvent::new(action).user(id).refused("CURRENT_PASSWORD_WRONG");
            event.record(tx, context, self.clock.now()).await?;
            Ok(())
        });
        audited.err().unwrap_or(Error::CurrentPasswordWrong)
    }
}
