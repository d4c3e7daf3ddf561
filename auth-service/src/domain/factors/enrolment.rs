//! Addition of an authenticator app. A code of the app confirms that it has the secret; before
//! that, the factor counts for nothing.

use std::{str::FromStr, time::Duration};

use access::token::Acr;
use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::UserId,
};
use db::{Conn, write_tx};
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        factors::totp::{TotpSecrets, TotpSetup},
        mail::{codes::PresentedCode, notices::Notice},
        passwords::attempts::Guess,
        request_context::RequestContext,
        users::{accounts::Accounts, names::is_unseen},
    },
    ids::{ChallengeId, FactorId},
    model::{CodePurpose, LoginChallenge, TotpFactor, User},
    store,
};

/// How long a factor waits to be confirmed.
pub(super) const LIFE: Duration = Duration::from_mins(15);
/// Number of authenticator apps that a user can have.
const MAX_FACTORS: usize = 5;
/// Number of rows of a table that a purge deletes in one transaction.
const BATCH: i64 = 500;
/// Maximum length of a name, in characters.
const MAX_NAME_LEN: usize = 64;

/// Name that a user gives a factor; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FactorName(String);

/// The error for a text that cannot be the name of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be at most 64 characters, without control characters and invisible ones")]
pub(crate) struct InvalidFactorName;

/// The second factors of a user.
#[derive(Debug)]
pub(crate) struct FactorList {
    pub(crate) factors: Vec<TotpFactor>,
    /// Number of recovery codes that are left.
    pub(crate) recovery_codes: usize,
}

impl FromStr for FactorName {
    type Err = InvalidFactorName;

    fn from_str(text: &str) -> Result<Self, InvalidFactorName> {
        let text = text.trim();
        if text.len() > 4 * MAX_NAME_LEN
            || text.chars().count() > MAX_NAME_LEN
            || text.chars().any(|c| c.is_control() || is_unseen(c))
        {
            return Err(InvalidFactorName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Accounts {
    /// Makes a secret for an authenticator app of the actor. An earlier one that was not confirmed
    /// is dropped.
    pub(crate) async fn create_factor(
        &self,
        context: &RequestContext,
        name: FactorName,
    ) -> Result<(TotpFactor, TotpSetup), Error> {
        write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            if user.is_guest {
                return Err(Error::GuestAccount);
            }
            // A password alone must not be enough to add a factor beside the user's own.
            if user.has_second_factor && context.acr() < Some(Acr::TwoFactors) {
                return Err(Error::SecondFactorRequired);
            }
            let created = self.begin_factor(tx, &user, name.0.clone(), None).await?;
            let event = AuditEvent::new("factor.create").target("factor", created.0.id);
            event.concerning(user.id).record(tx, context, self.clock.now()).await?;
            Ok(created)
        })
    }

    /// Confirms a factor of the actor with a code of the app. With the first factor, the actor gets
    /// recovery codes.
    pub(crate) async fn confirm_factor(
        &self,
        context: &RequestContext,
        id: FactorId,
        code: &SecretString,
    ) -> Result<(TotpFactor, Vec<SecretString>), Error> {
        const ACTION: &str = "factor.confirm";
        self.attempts.admit_login(context)?;
        let actor = context.user_id().ok_or(Error::UserNotFound)?;
        let guess = Guess::CurrentSecondFactor(actor);
        let guess = self.attempts.check_wait(context, guess).await?;
        let attempt = self.attempts.count(guess).await?;
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        let confirmed: Result<Option<_>, Error> = write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            let now = self.clock.now();
            let unconfirmed = self.unconfirmed(tx, user.id, now).await?;
            let factor = unconfirmed.filter(|factor| factor.id == id && factor.challenge_id.is_none());
            let factor = factor.ok_or(Error::FactorNotFound)?;
            let event = AuditEvent::new(ACTION).target("factor", id).concerning(user.id);
            if !self.use_totp(tx, &factor, code).await? {
                let event = attempt.note(event.refused("SECOND_FACTOR_WRONG"));
                event.record(tx, context, now).await?;
                // Committed, so that it is recorded.
                return Ok(None);
            }
            let codes = self.finish_enrolment(tx, context, &user, now).await?;
            self.attempts.succeeded(tx, &attempt).await?;
            event.record(tx, context, now).await?;
            let factor = TotpFactor {
                confirm_time: Some(now),
                ..factor
            };
            Ok(Some((factor, codes)))
        });
        confirmed?.ok_or(Error::SecondFactorWrong)
    }

    /// Begins the enrolment that a login waits for. If a code was mailed to the user, it must be
    /// this one.
    pub(crate) async fn begin_enrolment(
        &self,
        context: &RequestContext,
        token: &str,
        code: Option<&PresentedCode>,
    ) -> Result<TotpSetup, Error> {
        let challenge = self.admit_challenge(context, token).await?;
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        let begun: Result<Option<TotpSetup>, Error> = write_tx!(self.db, |tx| {
            let (user, challenge) = self.lock_challenge(tx, challenge.id, challenge.user_id).await?;
            if !challenge.is_enrolment {
                return Err(Error::ChallengeInvalid);
            }
            if challenge.needs_email_code && !self.is_enrolment_code(tx, context, &user, &challenge, code).await? {
                // Committed, so that the try counts.
                return Ok(None);
            }
            let (factor, setup) = self.begin_factor(tx, &user, String::new(), Some(challenge.id)).await?;
            let event = AuditEvent::new("factor.create").target("factor", factor.id);
            event.concerning(user.id).record(tx, context, self.clock.now()).await?;
            Ok(Some(setup))
        });
        begun?.ok_or(Error::CodeInvalid)
    }

    /// Lists the actor's second factors.
    pub(crate) async fn list_factors(&self, context: &RequestContext) -> Result<FactorList, Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let mut conn = self.db.read().await?;
        let mut factors = store::totp_factors(&mut conn, id).await?;
        factors.retain(|factor| factor.confirm_time.is_some());
        let recovery_codes = store::recovery_code_times(&mut conn, id).await?.len();
        Ok(FactorList {
            factors,
            recovery_codes,
        })
    }

    /// Replaces the actor's recovery codes.
    pub(crate) async fn renew_recovery_codes(&self, context: &RequestContext) -> Result<Vec<SecretString>, Error> {
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            if !user.has_second_factor {
                return Err(Error::NoSecondFactor);
            }
            let now = self.clock.now();
            let codes = self.replace_recovery_codes(tx, user.id, now).await?;
            let notice = Notice::RecoveryCodesRenewed;
            self.mails.post_notice(tx, context, &user, notice, now).await?;
            let event = AuditEvent::new("factor.renew_recovery_codes").user(user.id);
            event.record(tx, context, now).await?;
            Ok(codes)
        })
    }

    /// Deletes factors that were not confirmed in time, and challenges that have expired, batch by
    /// batch.
    pub(crate) async fn purge_factors(&self) -> Result<(), Error> {
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let before = settled.past().minus(LIFE);
            let deleted: Result<usize, Error> = write_tx!(self.db, |tx| {
                let factors = store::totp_factors_delete_unconfirmed(tx, before, BATCH).await?;
                Ok(factors + store::login_challenges_delete_expired(tx, before, BATCH).await?)
            });
            if deleted? == 0 {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Records that the user has a second factor from now on. Returns recovery codes if it is the
    /// first one.
    pub(super) async fn finish_enrolment(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        now: Timestamp,
    ) -> Result<Vec<SecretString>, Error> {
        let notice = Notice::SecondFactorAdded;
        self.mails.post_notice(tx, context, user, notice, now).await?;
        if user.has_second_factor {
            return Ok(Vec::new());
        }
        store::user_set_has_second_factor(tx, user.id, true).await?;
        self.replace_recovery_codes(tx, user.id, now).await
    }

    /// Returns the user's factor that waits to be confirmed.
    pub(super) async fn unconfirmed(
        &self,
        tx: &mut Conn,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Option<TotpFactor>, Error> {
        let factors = store::totp_factors(tx, user_id).await?;
        let is_waiting = |factor: &TotpFactor| {
            factor.confirm_time.is_none()
                && now < factor.create_time.plus(LIFE + ALLOWANCE)
                && factor.create_time <= now.plus(ALLOWANCE)
        };
        Ok(factors.into_iter().find(is_waiting))
    }

    async fn begin_factor(
        &self,
        tx: &mut Conn,
        user: &User,
        display_name: String,
        challenge_id: Option<ChallengeId>,
    ) -> Result<(TotpFactor, TotpSetup), Error> {
        let mut confirmed = 0;
        for factor in store::totp_factors(tx, user.id).await? {
            if factor.confirm_time.is_some() {
                confirmed += 1;
            } else {
                store::totp_factor_delete(tx, factor.id).await?;
            }
        }
        if confirmed >= MAX_FACTORS {
            return Err(Error::TooManyFactors);
        }
        let (id, secret) = (FactorId::generate(), TotpSecrets::generate());
        let factor = TotpFactor {
            id,
            user_id: user.id,
            display_name,
            sealed_secret: self.factors.secrets.seal(id, &secret)?,
            last_step: 0,
            challenge_id,
            create_time: self.clock.now(),
            confirm_time: None,
        };
        store::totp_factor_insert(tx, &factor).await?;
        let setup = self.factors.secrets.setup(&secret, &user.login)?;
        Ok((factor, setup))
    }

    /// Returns whether this is the code that was mailed for the enrolment, and uses it up.
    async fn is_enrolment_code(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        challenge: &LoginChallenge,
        code: Option<&PresentedCode>,
    ) -> Result<bool, Error> {
        let code = code.ok_or(Error::EnrolmentCodeMissing)?;
        let purpose = CodePurpose::FactorEnrolment;
        if self.mails.try_code(tx, user, purpose, code).await?.is_none() {
            let event = AuditEvent::new("factor.create").user(user.id).refused("CODE_INVALID");
            event.record(tx, context, self.clock.now()).await?;
            return Ok(false);
        }
        store::account_code_delete(tx, user.id, purpose).await?;
        if user.email_verify_time.is_none() {
            // So a later reset of the password leaves the factor.
            self.record_email_proof(tx, user, self.clock.now()).await?;
        }
        store::login_challenge_email_proven(tx, challenge.id).await?;
        Ok(true)
    }

    async fn replace_recovery_codes(
        &self,
        tx: &mut Conn,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Vec<SecretString>, Error> {
        let (codes, rows) = self.factors.recovery_codes.generate(user_id, now);
        store::recovery_codes_replace(tx, user_id, &rows).await?;
        Ok(codes)
    }
}
