//! The choice of a password with a code from a mail: by a user who has forgotten the old one, or by
//! one who was invited and has none.

use base::ids::UserId;
use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        factors::challenges::PendingLogin,
        feed,
        mail::{codes::PresentedCode, notices::Notice, requests::ResetRequest},
        passwords::{changes::ensure_fit, password::Password, queue::Client},
        request_context::RequestContext,
        sessions::revocation,
        tokens::access::RequestedAudience,
        users::{
            accounts::Accounts,
            login::{LoggedIn, LoginOutcome},
            names,
            people::person_with_password,
        },
    },
    model::{AuthMethods, CodePurpose, SessionEnd},
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
    #[expect(clippy::too_many_lines, reason = "the steps of a reset, whose order matters")]
    pub(crate) async fn reset_password(
        &self,
        context: &RequestContext,
        reset: PasswordReset,
    ) -> Result<LoginOutcome, Error> {
        self.attempts.admit_login(context)?;
        let key = names::identifier_key(reset.identifier.trim());
        let sessions = self.sessions.for_audience(&reset.audience).await?;
        // Hashed before the code is looked up, so that a wrong code takes as long as the right one.
        let client = Client::Unrecognized {
            bucket: context.origin.bucket,
            name: &key,
        };
        self.hashing.ensure_room(&client)?;
        let hash = self.hashing.hash(&client, reset.new_password.clone()).await?;
        let mails = &self.mails;
        mails.time.refresh().await?;
        let outcome: Result<Option<LoginOutcome>, Error> = write_tx!(self.db, |tx| {
            // Calls about one identifier run one after the other, whether or not it is a user's.
            self.attempts.lock_reset(tx, &key).await?;
            let found = person_with_password(tx, &key).await?;
            // For an unknown user the same statements run, and find nothing.
            let id = found.map_or_else(UserId::generate, |user| user.id);
            let user = store::user_lock(tx, id).await?;
            let user = user.filter(|user| user.is_person() && user.is_active && !user.is_guest);
            let used = mails.try_password_codes(tx, id, user.as_ref(), &reset.code).await?;
            let now = self.clock.now();
            let known = user.as_ref().map(|user| user.id);
            let Some((user, purpose)) = user.zip(used) else {
                let event = AuditEvent::new(ACTION).refused("CODE_INVALID");
                let event = match known {
                    Some(id) => event.user(id),
                    None => event.target("user", ""),
                };
                event.record(tx, context, now).await?;
                // Committed, so that the try counts.
                return Ok(None);
            };
            ensure_fit(&reset.new_password, &user, "new_password")?;
            let mut user = user;
            let missing = self.missing_factor(tx, &user).await?;
            if missing.is_none() {
                let recorded = store::user_record_login(tx, &user, now).await?;
                user = recorded.ok_or(Error::CodeInvalid)?;
            }
            let revoked = revocation::log_out_everywhere(tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
            store::user_set_password(tx, user.id, &hash, false).await?;
            let is_verified = !user.email_is_taken;
            if is_verified {
                store::user_record_email_proof(tx, user.id, now).await?;
                store::email_reminder_delete(tx, user.id).await?;
            }
            // Guesses at the old password no longer make the owner wait.
            self.attempts.forget_passwords(tx, &user).await?;
            user.token_version = revoked.token_version;
            user.must_change_password = false;
            user.invite_time = None;
            user.force_logout_time = Some(now);
            user.email_verify_time = is_verified.then_some(now).or(user.email_verify_time);
            if let Some(missing) = missing {
                // The mail proves no second factor, so the new password alone logs nobody in.
                let pending = PendingLogin {
                    audience: &reset.audience,
                    device: None,
                    new_password_hash: None,
                    is_email_proven: true,
                };
                let challenge = self.challenge(tx, context, &user, missing, &pending).await?;
                if purpose != CodePurpose::Invitation {
                    let notice = Notice::PasswordChanged;
                    mails.post_notice(tx, context, &user, notice, now).await?;
                }
                let event = AuditEvent::new(ACTION).user(user.id).detail("code", purpose.as_str());
                event.record(tx, context, now).await?;
                feed::publish(tx, vec![revoked.change], now).await?;
                return Ok(Some(LoginOutcome::Challenged(challenge)));
            }
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
            Ok(Some(LoginOutcome::LoggedIn(Box::new(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            }))))
        });
        outcome?.ok_or(Error::CodeInvalid)
    }
}
