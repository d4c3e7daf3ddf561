//! Return to a former address, with the link in the notice of a change. It helps a user whose
//! account somebody else has taken over.

use std::time::Duration;

use base::ids::UserId;
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        emails::holder::LockedHolders,
        error::Error,
        feed::{self, Change},
        mail::{
            code_mails::MailLimit,
            codes::{AccountCodes, Binding, PresentedCode},
            letter::Letter,
        },
        refusals::refused_in_steps,
        request_context::RequestContext,
        sessions::revocation,
        users::{
            accounts::Accounts,
            names,
            profile::{ensure_free, search_text, taken},
        },
    },
    ids::EmailUndoId,
    model::{AccountCode, CodePurpose, EmailUndo, SessionEnd, User},
    store::{self, NewEmail},
};

/// How long a change can be undone.
const UNDO_LIFE: Duration = Duration::from_hours(72);
/// Number of changes that can be undone. Further changes are refused, so that nobody can push the
/// first one out.
const MAX_UNDOS: usize = 5;
/// Pause suggested to a caller who has changed the address too often.
const RETRY: Duration = Duration::from_hours(1);

const ACTION: &str = "user.revert_email_change";

impl Accounts {
    /// Keeps the present address of the user, so that a change can be undone. Does nothing if the
    /// user has not verified it: it may be somebody else's.
    pub(super) async fn keep_undo(&self, tx: &mut Conn, user: &User) -> Result<Option<EmailUndo>, Error> {
        if user.email_verify_time.is_none() || user.email_is_taken || !self.mails.reaches(&user.email) {
            return Ok(None);
        }
        if store::email_undos(tx, user.id).await?.len() >= MAX_UNDOS {
            return Err(Error::TooManyAttempts(RETRY));
        }
        let now = self.mails.time.now();
        let undo = EmailUndo {
            id: EmailUndoId::generate(),
            user_id: user.id,
            email: user.email.clone(),
            email_folded: names::identifier_key(&user.email),
            seed: AccountCodes::seed(),
            create_time: now,
            expire_time: now.plus(UNDO_LIFE),
        };
        store::email_undo_insert(tx, &undo).await?;
        Ok(Some(undo))
    }

    /// Returns whether the address with this key is a former one to which the user can still
    /// return. If so, deletes it and all later ones: the user can no longer return to those.
    pub(super) async fn is_return(&self, tx: &mut Conn, user: &User, key: &str) -> Result<bool, Error> {
        let former = store::email_undos(tx, user.id).await?;
        let found = former
            .into_iter()
            .filter(|undo| undo.email_folded == key && undo.is_live(self.mails.time.now()))
            .map(|undo| undo.create_time)
            .min();
        if let Some(time) = found {
            store::email_undos_delete_since(tx, user.id, time).await?;
        }
        Ok(found.is_some())
    }

    /// Gives the user the address back to which the code was mailed, ends every session, makes the
    /// password invalid, and mails a code that sets a new one. An unknown user and a wrong code get
    /// the same answer after the same time.
    pub(crate) async fn revert_email_change(
        &self,
        context: &RequestContext,
        id: UserId,
        code: PresentedCode,
    ) -> Result<(), Error> {
        self.attempts.admit_login(context)?;
        refused_in_steps(self.attempt_revert(context, id, code)).await
    }

    async fn attempt_revert(&self, context: &RequestContext, id: UserId, code: PresentedCode) -> Result<(), Error> {
        self.mails.time.refresh().await?;
        let outcome: Result<bool, Error> = write_tx!(self.db, |tx| {
            let undos = store::email_undos(tx, id).await?;
            let keys: Vec<String> = undos.into_iter().map(|undo| undo.email_folded).collect();
            let holders = self.lock_holders_first(tx, id, &keys).await?;
            let user = store::user_lock(tx, id).await?.filter(User::is_person);
            let undos = store::email_undos(tx, id).await?;
            let now = self.clock.now();
            let undo = undos.into_iter().find(|undo| self.is_right_undo(undo, &code));
            let event = AuditEvent::new(ACTION).named_user(user.as_ref().map(|user| user.id));
            let Some((user, undo)) = user.zip(undo) else {
                event.refused("CODE_INVALID").record(tx, context, now).await?;
                return Ok(false);
            };
            let change = self.return_to(tx, context, user, (&undo, &holders)).await?;
            event.record(tx, context, now).await?;
            feed::publish(tx, vec![change], now).await?;
            Ok(true)
        });
        if outcome? { Ok(()) } else { Err(Error::UndoCodeInvalid) }
    }

    fn is_right_undo(&self, undo: &EmailUndo, code: &PresentedCode) -> bool {
        let binding = Binding {
            purpose: CodePurpose::EmailUndo,
            user_id: undo.user_id,
            address_key: &undo.email_folded,
            seed: &undo.seed,
        };
        // There is no short form, which could be guessed.
        code.typed_tries() == 0 && self.mails.codes.is_right(binding, code) && undo.is_live(self.mails.time.now())
    }

    /// Makes the former address the user's again. The row is locked. The caller publishes the
    /// returned change.
    async fn return_to(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: User,
        (undo, holders): (&EmailUndo, &LockedHolders),
    ) -> Result<Change, Error> {
        let now = self.clock.now();
        // An older version of this program may have given the address to somebody else, who has
        // never verified it.
        let holder = self.lock_holder(tx, &user, &undo.email_folded, holders).await?;
        if let Some(holder) = holder.filter(|holder| holder.email_verify_time.is_none()) {
            store::user_give_up_email(tx, holder.id).await?;
        }
        ensure_free(tx, Some(user.id), None, Some(&undo.email_folded)).await?;
        let revoked = revocation::log_out_everywhere(tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
        store::user_set_password(tx, user.id, &self.hashing.unusable()?, false).await?;
        let values = NewEmail {
            search_folded: search_text(&user, &undo.email),
            email: undo.email.clone(),
            email_folded: undo.email_folded.clone(),
        };
        let user = store::user_set_email(tx, user.id, &values, now).await.map_err(taken)?;
        // Later addresses may be those of whoever took the account over.
        store::email_undos_delete_since(tx, user.id, undo.create_time).await?;
        // So may later second factors, whose times are those of this clock and not the database's.
        let age = self.mails.time.now().since(undo.create_time);
        self.forget_factors_since(tx, context, &user, now.minus(age)).await?;
        self.attempts.forget_passwords(tx, &user).await?;
        // Counted apart from the mails that anyone can ask for, so that it is sent in any case.
        let (purpose, limit) = (CodePurpose::PasswordReset, MailLimit::Administrator);
        let letter = |identifier: &str, code: &AccountCode| match Letter::with_code(identifier, code) {
            Letter::PasswordReset(code) => Letter::EmailReverted(code),
            letter => letter,
        };
        self.mails
            .post_code_in(tx, &user, (purpose, None), limit, letter)
            .await?;
        Ok(revoked.change)
    }
}
