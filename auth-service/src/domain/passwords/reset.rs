//! The choice of a password with a code from a mail: by a user who has forgotten the old one, or by
//! one who was invited and has none.

use base::{clock::Timestamp, ids::UserId};
use db::{Conn, write_tx};

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
        let hash = self
            .hashing
            .hash(&client, reset.new_password.clone(), "new_password")
            .await?;
        let mails = &self.mails;
        mails.time.refresh().await?;
        let outcome: Result<Option<LoginOutcome>, Error> = write_tx!(self.db, |tx| {
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
            let is_first_proof = user.email_verify_time.is_none();
            let mut user = user;
            let revoked = revocation::log_out_everywhere(tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
            store::user_set_password(tx, user.id, &hash, false).await?;
            // Guesses at the old password no longer make the owner wait.
            self.attempts.forget_passwords(tx, &user).await?;
            user.token_version = revoked.token_version;
            user.must_change_password = false;
            user.invite_time = None;
            user.force_logout_time = Some(now);
            // The code was mailed to the address, so this proves as much as a verification.
            let mut user = match self.claim_email(tx, &user, &email_key(&user), &holders).await {
                // The other user has proved it as well, or need not.
                Err(Error::UserAlreadyExists(_)) => user,
                claimed => {
                    claimed?;
                    let user = self.record_email_proof(tx, &user, now).await?;
                    if is_first_proof {
                        self.forget_factors_before_proof(tx, context, user, now).await?
                    } else {
                        user
                    }
                }
            };
            let event = AuditEvent::new(ACTION).user(user.id).detail("code", purpose.as_str());
            if let Some(missing) = self.missing_factor(tx, &user).await? {
                // The mail proves no second factor, so the new password alone logs nobody in.
                let pending = PendingLogin {
                    audience: &reset.audience,
                    device: None,
                    new_password_hash: None,
                    is_email_proven: true,
                };
                let challenge = self.challenge(tx, context, &user, missing, &pending).await?;
                self.tell_of_reset(tx, context, (&user, purpose), now).await?;
                event.record(tx, context, now).await?;
                feed::publish(tx, vec![revoked.change], now).await?;
                return Ok(Some(LoginOutcome::Challenged(challenge)));
            }
            user = store::user_record_login(tx, &user, now)
                .await?
                .ok_or(Error::CodeInvalid)?;
            // The user knows the new password. There is no registered method for a mailed code.
            let by = (AuthMethods::PASSWORD, now);
            let begun = sessions.begin(tx, context, &user, None, by).await?;
            self.tell_of_reset(tx, context, (&user, purpose), now).await?;
            event
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

    /// Tells a user who had a password that it was replaced.
    async fn tell_of_reset(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        (user, purpose): (&User, CodePurpose),
        now: Timestamp,
    ) -> Result<(), Error> {
        if purpose == CodePurpose::Invitation {
            return Ok(());
        }
        let notice = Notice::PasswordChanged;
        self.mails.post_notice(tx, context, user, notice, now).await
    }
}
