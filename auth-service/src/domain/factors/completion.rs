//! Completion of a login with the second factor.

use base::ids::UserId;
use db::{Conn, write_tx};
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        factors::proof::SecondProof,
        feed,
        mail::notices::Notice,
        passwords::{attempts::Guess, changes::replace_at_login},
        request_context::RequestContext,
        users::{accounts::Accounts, login::LoggedIn},
    },
    ids::ChallengeId,
    model::{AuthMethods, LoginChallenge, User},
    store,
};

const ACTION: &str = "session.login";

impl Accounts {
    /// Begins the session that a challenge stands for, if the proof is right. A challenge for an
    /// enrolment takes a code of the new app, and the user gets recovery codes.
    pub(crate) async fn complete_login(
        &self,
        context: &RequestContext,
        token: &str,
        proof: &SecondProof,
    ) -> Result<(LoggedIn, Vec<SecretString>), Error> {
        let outcome = self.attempt_completion(context, token, proof).await;
        counts::login(&outcome);
        outcome
    }

    async fn attempt_completion(
        &self,
        context: &RequestContext,
        token: &str,
        proof: &SecondProof,
    ) -> Result<(LoggedIn, Vec<SecretString>), Error> {
        let challenge = self.admit_challenge(context, token).await?;
        let (id, user_id) = (challenge.id, challenge.user_id);
        let audience = challenge.audience.parse().map_err(|_| Error::ChallengeInvalid)?;
        let sessions = self.sessions.for_audience(&audience).await?;
        // Counted before the code is checked, so that many guesses at once get no further than
        // guesses one after the other.
        let guess = Guess::SecondFactor(user_id, challenge.device_id);
        let guess = self.attempts.check_wait(context, guess).await?;
        let attempt = self.attempts.count(guess).await?;
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        let completed: Result<Option<_>, Error> = write_tx!(self.db, |tx| {
            let (mut user, challenge) = self.lock_challenge(tx, id, user_id).await?;
            let now = self.clock.now();
            if !self.is_second_factor(tx, &user, &challenge, proof).await? {
                let event = AuditEvent::new(ACTION).user(user.id).refused("SECOND_FACTOR_WRONG");
                let event = event.detail("second_factor", proof.name());
                attempt.note(event).record(tx, context, now).await?;
                // Committed, so that it is recorded.
                return Ok(None);
            }
            store::login_challenge_delete(tx, id).await?;
            let is_first_login = user.last_login_time.is_none();
            let recorded = store::user_record_login(tx, &user, now).await?;
            user = recorded.ok_or(Error::ChallengeInvalid)?;
            let mut published = Vec::new();
            if let Some(hash) = challenge.new_password_hash {
                let hash = SecretString::from(hash);
                published.push(replace_at_login(tx, context, &mut user, &hash, now).await?);
                let notice = Notice::PasswordChanged;
                self.mails.post_notice(tx, context, &user, notice, now).await?;
            }
            if challenge.device_id.is_none() && !is_first_login {
                let notice = Notice::DeviceLogin;
                self.mails.post_notice(tx, context, &user, notice, now).await?;
            }
            let recovery_codes = if challenge.is_enrolment {
                self.finish_enrolment(tx, context, &user, now).await?
            } else {
                Vec::new()
            };
            let by = (AuthMethods::PASSWORD_AND_CODE, now);
            let begun = sessions.begin(tx, context, &user, challenge.device_id, by).await?;
            published.extend(begun.changes);
            self.remind_to_verify(tx, &user).await?;
            self.attempts.succeeded(tx, &attempt).await?;
            AuditEvent::new(ACTION)
                .user(user.id)
                .detail("session_id", begun.session_id)
                .detail("second_factor", proof.name())
                .record(tx, context, now)
                .await?;
            feed::publish(tx, published, now).await?;
            let logged_in = LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            };
            Ok(Some((logged_in, recovery_codes)))
        });
        completed?.ok_or(Error::SecondFactorWrong)
    }

    /// Admits a call with the token of a challenge within the limit of its address, or of the
    /// device if the login came from a known one, and reads the challenge. A forged token costs no
    /// query, and a genuine one only that by its id.
    pub(super) async fn admit_challenge(&self, context: &RequestContext, token: &str) -> Result<LoginChallenge, Error> {
        let Some(id) = self.factors.challenges.open(token) else {
            self.attempts.admit_login(context)?;
            return Err(Error::ChallengeInvalid);
        };
        let challenge = store::login_challenge(&mut self.db.read().await?, id).await?;
        let device = challenge.as_ref().and_then(|challenge| challenge.device_id);
        if !device.is_some_and(|device| self.attempts.admits_device_login(device)) {
            self.attempts.admit_login(context)?;
        }
        challenge.ok_or(Error::ChallengeInvalid)
    }

    /// Locks the user's row, and returns the user and the challenge. Fails if it is no longer good.
    pub(super) async fn lock_challenge(
        &self,
        tx: &mut Conn,
        id: ChallengeId,
        user_id: UserId,
    ) -> Result<(User, LoginChallenge), Error> {
        let user = store::user_lock(tx, user_id).await?.ok_or(Error::ChallengeInvalid)?;
        // Read again, because another call may have completed the login meanwhile.
        let challenge = store::login_challenge(tx, id).await?;
        let now = self.clock.now();
        let challenge = challenge.filter(|challenge| challenge.is_good_for(&user, now));
        Ok((user, challenge.ok_or(Error::ChallengeInvalid)?))
    }

    async fn is_second_factor(
        &self,
        tx: &mut Conn,
        user: &User,
        challenge: &LoginChallenge,
        proof: &SecondProof,
    ) -> Result<bool, Error> {
        if !challenge.is_enrolment {
            return self.use_second_factor(tx, user, proof).await;
        }
        let SecondProof::Totp(code) = proof else {
            return Ok(false);
        };
        let unconfirmed = self.unconfirmed(tx, user.id, self.clock.now()).await?;
        match unconfirmed.filter(|factor| factor.challenge_id == Some(challenge.id)) {
            Some(factor) => self.use_totp(tx, &factor, code).await,
            None => Ok(false),
        }
    }
}
