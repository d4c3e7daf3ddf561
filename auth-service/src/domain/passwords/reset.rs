//! The choice of a password with a code from a mail: by a user who has forgotten the old one, or by
//! one who was invited and has none.

use base::ids::UserId;
use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed,
        mail::{codes::PresentedCode, notices::Notice, requests::ResetRequest},
        passwords::{changes::ensure_fit, password::Password, queue::Client},
        request_context::RequestContext,
        sessions::revocation,
        tokens::access::RequestedAudience,
        users::{accounts::Accounts, login::LoggedIn, names, people::person_with_password},
    },
    model::{AuthMethods, CodePurpose, SessionEnd, User},
    store,
};

const ACTION: &str = "user.reset_password";

/// A code from a mail, and the password that it sets.
#[derive(Debug)]
pub(crate) struct PasswordReset {
    /// The login or the e-mail address, as typed.
    pub(crate) identifier: String,
    pub(crate) code: PresentedCode,
    pub(crate) new_password: Password,
    /// Audience of the access token.
    pub(crate) audience: RequestedAudience,
}

impl Accounts {
    /// Asks for a mail with a code that replaces a forgotten password. Does the same whether or not
    /// the user exists.
    pub(crate) async fn request_password_reset(
        &self,
        context: &RequestContext,
        request: &ResetRequest,
    ) -> Result<(), Error> {
        // A device token does not spare the caller the limit of the address. Only the job finds out
        // whether it belongs to this user.
        self.attempts.admit_login(context)?;
        self.mails.store_request(context, request).await
    }

    /// Replaces the password of the user to whom the code was mailed, or sets the first one of an
    /// invited user. Ends every session, and logs the user in. An unknown user and a wrong code get
    /// the same answer after the same work.
    pub(crate) async fn reset_password(
        &self,
        context: &RequestContext,
        reset: PasswordReset,
    ) -> Result<LoggedIn, Error> {
        self.attempts.admit_login(context)?;
        let key = names::identifier_key(reset.identifier.trim());
        let sessions = self.sessions.for_audience(&reset.audience).await?;
        // Hashed before the code is looked up, so that a wrong code takes as long as the right one.
        let client = Client::Unrecognized {
            bucket: context.origin.bucket,
            name: &key,
        };
        self.hashing.ensure_room(&client)?;
        let hash = self
            .hashing
            .hash(&client, reset.new_password.clone(), "new_password")
            .await?;
        let mails = &self.mails;
        mails.time.refresh().await?;
        let outcome: Result<Option<LoggedIn>, Error> = write_tx!(self.db, |tx| {
            // Calls about one identifier run one after the other, whether or not it is a user's.
            self.attempts.lock_reset(tx, &key).await?;
            let found = person_with_password(tx, &key).await?;
            // For an unknown user the same statements run, and find nothing.
            let email_key = |user: &User| names::identifier_key(&user.email);
            let keys = [found.as_ref().map_or_else(|| key.clone(), email_key)];
            let id = found.map_or_else(UserId::generate, |user| user.id);
            let holders = self.lock_holders_first(tx, id, &keys).await?;
            let user = store::user_lock(tx, id).await?;
            let user = user.filter(|user| user.is_person() && user.is_active && !user.is_guest);
            let used = mails.try_password_codes(tx, id, user.as_ref(), &reset.code).await?;
            let now = self.clock.now();
            let known = user.as_ref().map(|user| user.id);
            let Some((user, purpose)) = user.zip(used) else {
                let event = AuditEvent::new(ACTION).named_user(known).refused("CODE_INVALID");
                event.record(tx, context, now).await?;
                // Committed, so that the try counts.
                return Ok(None);
            };
            ensure_fit(&reset.new_password, &user, "new_password")?;
            let recorded = store::user_record_login(tx, &user, now).await?;
            let mut user = recorded.ok_or(Error::CodeInvalid)?;
            let revoked = revocation::log_out_everywhere(tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
            store::user_set_password(tx, user.id, &hash, false).await?;
            if user.email_verify_time.is_none() {
                // The address is proved for the first time. Whoever had the account before may have
                // linked an identity of their own.
                store::identities_delete(tx, user.id).await?;
            }
            // Guesses at the old password no longer make the owner wait.
            self.attempts.forget(tx, &user).await?;
            user.token_version = revoked.token_version;
            user.must_change_password = false;
            user.invite_time = None;
            user.force_logout_time = Some(now);
            // The code was mailed to the address, so this proves as much as a verification.
            let user = match self.claim_email(tx, &user, &email_key(&user), &holders).await {
                // The other user has proved it as well, or need not.
                Err(Error::UserAlreadyExists(_)) => user,
                claimed => {
                    claimed?;
                    self.record_email_proof(tx, &user, now).await?
                }
            };
            // The user knows the new password. There is no registered method for a mailed code.
            let by = (AuthMethods::PASSWORD, now);
            let begun = sessions.begin(tx, context, &user, None, by).await?;
            if purpose != CodePurpose::Invitation {
                let notice = Notice::PasswordChanged;
                mails.post_notice(tx, context, &user, notice, now).await?;
            }
            AuditEvent::new(ACTION)
                .user(user.id)
                .detail("code", purpose.as_str())
                .detail("session_id", begun.session_id)
                .record(tx, context, now)
                .await?;
            let mut published = vec![revoked.change];
            published.extend(begun.changes);
            feed::publish(tx, published, now).await?;
            Ok(Some(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            }))
        });
        outcome?.ok_or(Error::CodeInvalid)
    }
}
