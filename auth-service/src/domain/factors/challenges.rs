//! Challenges: logins that have passed the password, and wait for the second factor.

use std::time::Duration;

use base::clock::{ALLOWANCE, Timestamp};
use db::Conn;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        factors::proof::Missing,
        mail::code_mails::{MailLimit, Posted},
        request_context::RequestContext,
        tokens::access::RequestedAudience,
        users::accounts::Accounts,
    },
    ids::{ChallengeId, DeviceId},
    model::{CodePurpose, LoginChallenge, User},
    store,
};

/// How long a challenge is valid. A user who adds a factor may have to install an app first.
const LIFE: Duration = Duration::from_mins(15);
/// Number of challenges that a user can have at a time. The oldest ones go first.
const MAX_PER_USER: usize = 10;

/// A challenge, as its client gets it.
#[derive(Debug)]
pub(crate) struct Challenge {
    pub(crate) token: SecretString,
    /// Whether the user has to add a second factor first.
    pub(crate) is_enrolment: bool,
    /// Whether a code was mailed, which must be entered before a factor can be added.
    pub(crate) needs_email_code: bool,
    pub(crate) expire_time: Timestamp,
}

/// Parts of a login that its challenge keeps until the login is complete.
#[derive(Debug)]
pub(in crate::domain) struct PendingLogin<'a> {
    pub(in crate::domain) audience: &'a RequestedAudience,
    pub(in crate::domain) device: Option<DeviceId>,
    /// Hash of the password that replaces the present one.
    pub(in crate::domain) new_password_hash: Option<&'a SecretString>,
    /// Whether a code from a mail has just shown that the user receives mail.
    pub(in crate::domain) is_email_proven: bool,
}

impl LoginChallenge {
    /// Returns whether the challenge is good for this user now. Another process may have made it,
    /// by a clock of its own.
    pub(super) fn is_good_for(&self, user: &User, now: Timestamp) -> bool {
        user.is_active
            && user.id == self.user_id
            && user.token_version == self.token_version
            // A user who has got a factor meanwhile must prove that one, and not add another.
            && user.has_second_factor != self.is_enrolment
            && now < self.expire_time.plus(ALLOWANCE)
            && self.create_time <= now.plus(ALLOWANCE)
    }
}

impl Accounts {
    /// Makes a challenge for a user whose row is locked, and who has proved that they know the
    /// password. Records no login.
    pub(in crate::domain) async fn challenge(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        missing: Missing,
        pending: &PendingLogin<'_>,
    ) -> Result<Challenge, Error> {
        let is_enrolment = missing == Missing::Enrolment;
        let needs_email_code = is_enrolment
            && !pending.is_email_proven
            && self.post_enrolment_code(tx, user, pending.device.is_some()).await?;
        for old in store::login_challenges_of(tx, user.id)
            .await?
            .into_iter()
            .skip(MAX_PER_USER - 1)
        {
            store::login_challenge_delete(tx, old).await?;
        }
        let now = self.clock.now();
        let challenge = LoginChallenge {
            id: ChallengeId::generate(),
            user_id: user.id,
            token_version: user.token_version,
            is_enrolment,
            needs_email_code,
            audience: pending.audience.as_str().to_owned(),
            device_id: pending.device,
            new_password_hash: pending.new_password_hash.map(|hash| hash.expose_secret().to_owned()),
            create_time: now,
            expire_time: now.plus(LIFE),
        };
        store::login_challenge_insert(tx, &challenge).await?;
        AuditEvent::new("session.challenge")
            .user(user.id)
            .detail("needs", if is_enrolment { "enrolment" } else { "second_factor" })
            .record(tx, context, now)
            .await?;
        Ok(Challenge {
            token: self.factors.challenges.make(challenge.id),
            is_enrolment,
            needs_email_code,
            expire_time: challenge.expire_time,
        })
    }

    /// Mails a code to a user who has to add a second factor, so that somebody who knows only the
    /// password cannot add theirs. Returns false if no mail can go to the user.
    async fn post_enrolment_code(&self, tx: &mut Conn, user: &User, is_known_device: bool) -> Result<bool, Error> {
        if user.email_is_taken {
            return Ok(false);
        }
        let limit = if is_known_device {
            MailLimit::KnownDevice
        } else {
            MailLimit::Anyone
        };
        let purpose = CodePurpose::FactorEnrolment;
        let posted = self.mails.post_code(tx, user, purpose, None, limit).await?;
        if posted == Posted::TooMany && self.mails.has_live_code(tx, user.id, purpose).await? {
            // The code of the last mail can still be typed.
            return Ok(true);
        }
        match posted {
            Posted::Unreachable => Ok(false),
            posted => posted.or_refuse().map(|()| true),
        }
    }
}
