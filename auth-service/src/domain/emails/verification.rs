//! Proof that a user receives mail at their address.

use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        emails::caller::AddressOwner,
        error::Error,
        mail::{code_mails::MailLimit, codes::PresentedCode},
        request_context::RequestContext,
        users::{accounts::Accounts, names},
    },
    model::{CodePurpose, User},
    store,
};

const ACTION: &str = "user.verify_email";
const PURPOSE: CodePurpose = CodePurpose::EmailVerification;

impl Accounts {
    /// Mails the caller a code that verifies their address. Does nothing if it is verified.
    pub(crate) async fn request_email_verification(
        &self,
        context: &RequestContext,
        owner: AddressOwner,
    ) -> Result<(), Error> {
        const ACTION: &str = "user.request_email_verification";
        self.mails.ensure_configured()?;
        let owner = self.prove_owner(context, owner, ACTION).await?;
        self.mails.time.refresh().await?;
        write_tx!(self.db, |tx| {
            let user = self.lock_owner(tx, context, &owner).await?;
            if user.email_verify_time.is_some() {
                return Ok(());
            }
            let posted = self
                .mails
                .post_code(tx, &user, PURPOSE, None, MailLimit::Unverified)
                .await?;
            posted.or_refuse()?;
            AuditEvent::new(ACTION)
                .user(user.id)
                .record(tx, context, self.clock.now())
                .await?;
            Ok(())
        })
    }

    /// Verifies the caller's address with a code from a mail. If another user has held the address
    /// for long without verifying it, that user loses it.
    pub(crate) async fn verify_email(
        &self,
        context: &RequestContext,
        owner: AddressOwner,
        code: PresentedCode,
    ) -> Result<User, Error> {
        let owner = self.prove_owner(context, owner, ACTION).await?;
        self.mails.time.refresh().await?;
        let id = Self::id_of(context, &owner)?;
        let outcome: Result<Option<User>, Error> = write_tx!(self.db, |tx| {
            let present = store::user_by_id(tx, id).await?.ok_or(Error::UserNotFound)?;
            let keys = [names::identifier_key(&present.email)];
            let holders = self.lock_holders_first(tx, id, &keys).await?;
            let user = self.lock_owner(tx, context, &owner).await?;
            let now = self.clock.now();
            let event = AuditEvent::new(ACTION).user(user.id);
            if self.mails.try_code(tx, &user, PURPOSE, &code).await?.is_none() {
                event.refused("EMAIL_CODE_INVALID").record(tx, context, now).await?;
                // Committed, so that the try counts.
                return Ok(None);
            }
            self.claim_email(tx, &user, &names::identifier_key(&user.email), &holders)
                .await?;
            let user = self.record_email_proof(tx, &user, now).await?;
            store::account_code_delete(tx, user.id, PURPOSE).await?;
            event.record(tx, context, now).await?;
            Ok(Some(user))
        });
        outcome?.ok_or(Error::EmailCodeInvalid)
    }
}
