//! Changes of a user's address. A code that is mailed to the new address must confirm the change.
//! The former address gets a notice.

use base::validate::InvalidFields;
use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        emails::caller::{AddressOwner, ProvenOwner},
        error::Error,
        mail::{code_mails::MailLimit, codes::PresentedCode, notices::Notice},
        passwords::password::Password,
        request_context::RequestContext,
        users::{
            accounts::Accounts,
            names::{self, Email},
            profile::{ensure_free, search_text, taken},
        },
    },
    model::{CodePurpose, User},
    store::{self, NewEmail},
};

/// Audit action of a change of the address.
const ACTION: &str = "user.change_email";
const PURPOSE: CodePurpose = CodePurpose::EmailChange;

impl Accounts {
    /// Mails a code to the address that the caller wants to have. Without an `identifier`, the
    /// caller is the bearer of the access token.
    pub(crate) async fn change_email(
        &self,
        context: &RequestContext,
        identifier: Option<String>,
        password: Password,
        email: Email,
    ) -> Result<(), Error> {
        const ACTION: &str = "user.request_email_change";
        self.mails.ensure_configured()?;
        if !self.mails.reaches(email.as_str()) {
            return Err(Error::EmailUnreachable);
        }
        let verified = match &identifier {
            Some(identifier) => {
                self.verify_identified(context, identifier, password.clone(), ACTION)
                    .await?
            }
            None => self.verify_actor(context, password.clone(), ACTION).await?,
        };
        if password.is_login_or_email(None, Some(&email)) {
            return Err(InvalidFields::one("email", "must not be the password").into());
        }
        // Limited like a registration, because the answer also reveals whether an address is taken.
        self.attempts.admit_registration(context)?;
        self.mails.time.refresh().await?;
        let is_bearer = identifier.is_none();
        let owner = ProvenOwner::Verified(Box::new(verified));
        write_tx!(self.db, |tx| {
            if is_bearer {
                // The session may have ended meanwhile.
                self.lock_actor(tx, context).await?;
            }
            let user = self.lock_changing_owner(tx, context, &owner).await?;
            if !is_bearer {
                self.ensure_password_is_enough(tx, &user).await?;
            }
            if user.email == email.as_str() && !user.email_is_taken {
                return Err(InvalidFields::one("email", "is the present address").into());
            }
            if !self.holder_gives_up_email(tx, Some(user.id), email.key()).await? {
                ensure_free(tx, Some(user.id), None, Some(email.key())).await?;
            }
            let posted = self
                .mails
                .post_code(tx, &user, PURPOSE, Some(&email), MailLimit::Unverified)
                .await?;
            posted.or_refuse()?;
            AuditEvent::new(ACTION)
                .user(user.id)
                .record(tx, context, self.clock.now())
                .await?;
            Ok(())
        })
    }

    /// Makes the address to which the code was mailed the caller's. The former address gets a
    /// notice. If it was verified, the notice has a link that undoes the change.
    pub(crate) async fn confirm_email_change(
        &self,
        context: &RequestContext,
        owner: AddressOwner,
        code: PresentedCode,
    ) -> Result<User, Error> {
        let owner = self.prove_owner(context, owner, ACTION).await?;
        self.mails.time.refresh().await?;
        let id = Self::id_of(context, &owner)?;
        let outcome: Result<Option<User>, Error> = write_tx!(self.db, |tx| {
            let pending = store::account_code(tx, id, PURPOSE).await?;
            let keys: Vec<String> = pending
                .and_then(|code| code.email)
                .iter()
                .map(|email| names::identifier_key(email))
                .collect();
            let holders = self.lock_holders_first(tx, id, &keys).await?;
            let user = self.lock_changing_owner(tx, context, &owner).await?;
            if let ProvenOwner::Verified(_) = owner {
                self.ensure_password_is_enough(tx, &user).await?;
            }
            let now = self.clock.now();
            let event = AuditEvent::new(ACTION).user(user.id);
            let right = self.mails.try_code(tx, &user, PURPOSE, &code).await?;
            let Some(email) = right.and_then(|code| code.email) else {
                event.refused("EMAIL_CODE_INVALID").record(tx, context, now).await?;
                // Committed, so that the try counts.
                return Ok(None);
            };
            let key = names::identifier_key(&email);
            self.claim_email(tx, &user, &key, &holders).await?;
            let undo = if self.is_return(tx, &user, &key).await? {
                // A thief may have set the present address, so it gets no link.
                None
            } else {
                self.keep_undo(tx, &user).await?
            };
            let notice = Notice::EmailChanged { undo: undo.as_ref() };
            self.mails.post_notice(tx, context, &user, notice, now).await?;
            let values = NewEmail {
                search_folded: search_text(&user, &email),
                email,
                email_folded: key,
            };
            let changed = store::user_set_email(tx, user.id, &values, now).await.map_err(taken)?;
            // Codes for the former address must not be valid again if the user returns to it.
            store::account_codes_delete(tx, user.id).await?;
            store::email_reminder_delete(tx, user.id).await?;
            event.record(tx, context, now).await?;
            Ok(Some(changed))
        });
        outcome?.ok_or(Error::EmailCodeInvalid)
    }
}
