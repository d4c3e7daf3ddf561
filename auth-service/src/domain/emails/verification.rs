//! Proof that a user receives mail at their address.

use base::ids::UserId;
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        emails::caller::AddressOwner,
        error::Error,
        mail::{code_mails::MailLimit, codes::PresentedCode},
        request_context::RequestContext,
        users::{
            accounts::Accounts,
            names,
            profile::{ensure_free, search_text, taken},
        },
    },
    model::{CodePurpose, User},
    store::{self, NewEmail},
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
            self.lock_holder_first(tx, id, &names::identifier_key(&present.email))
                .await?;
            let user = self.lock_owner(tx, context, &owner).await?;
            let now = self.clock.now();
            let event = AuditEvent::new(ACTION).user(user.id);
            if self.mails.try_code(tx, &user, PURPOSE, &code).await?.is_none() {
                event.refused("EMAIL_CODE_INVALID").record(tx, context, now).await?;
                // Committed, so that the try counts.
                return Ok(None);
            }
            let key = names::identifier_key(&user.email);
            self.take_from_holder(tx, &user, &key).await?;
            ensure_free(tx, Some(user.id), None, Some(&key)).await?;
            let values = NewEmail {
                search_folded: search_text(&user, &user.email),
                email: user.email,
                email_folded: key,
            };
            let user = store::user_verify_email(tx, user.id, &values, now)
                .await
                .map_err(taken)?;
            store::account_code_delete(tx, user.id, PURPOSE).await?;
            store::email_reminder_delete(tx, user.id).await?;
            event.record(tx, context, now).await?;
            Ok(Some(user))
        });
        outcome?.ok_or(Error::EmailCodeInvalid)
    }

    /// Locks the row of the user who has the address with this key, if that row comes before the
    /// one with this id in the order of locks.
    pub(super) async fn lock_holder_first(&self, tx: &mut Conn, id: UserId, key: &str) -> Result<(), Error> {
        let holder = store::user_by_email(tx, key).await?;
        if let Some(holder) = holder.filter(|holder| holder.id < id) {
            store::user_lock(tx, holder.id).await?;
        }
        Ok(())
    }

    /// Takes the address with this key from the user who has it, if that user must give it up.
    /// Otherwise leaves it. The caller's row is locked.
    pub(super) async fn take_from_holder(&self, tx: &mut Conn, user: &User, key: &str) -> Result<(), Error> {
        let Some(found) = store::user_by_email(tx, key).await? else {
            return Ok(());
        };
        if found.id == user.id {
            return Ok(());
        }
        let holder = store::user_lock(tx, found.id).await?;
        let Some(holder) = holder.filter(|holder| names::identifier_key(&holder.email) == key) else {
            return Ok(());
        };
        if self.gives_up_email(tx, &holder).await? {
            store::user_give_up_email(tx, holder.id).await?;
            store::account_codes_delete(tx, holder.id).await?;
            AuditEvent::new("user.lose_email")
                .user(holder.id)
                .record(tx, &RequestContext::itself(), self.clock.now())
                .await?;
        }
        Ok(())
    }
}
