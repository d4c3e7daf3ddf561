//! Consequences of the rule that users must verify their address before they log in.
//!
//! Users who had their address before the rule was turned on have 30 days to verify it, and are
//! reminded by mail. Nobody else can get their address. The same holds for imported users, from the
//! import on. A newer user who has not verified the address within 24 hours gives it up to the
//! first user who does.

use std::time::Duration;

use base::{
    clock::{ALLOWANCE, Settled},
    ids::UserId,
};
use db::Conn;

use crate::{
    domain::{
        emails::rule::{EmailRequirement, email_time},
        error::Error,
        mail::code_mails::{MailLimit, Posted},
        users::accounts::Accounts,
    },
    model::{CodePurpose, User},
    store,
};

/// Time that users from before the rule, and imported users, have to verify their address.
const GRACE: Duration = Duration::from_hours(30 * 24);
/// Time between two reminders to a user.
const REMINDER_PAUSE: Duration = Duration::from_hours(7 * 24);
/// Time after which an address that was not verified is given up.
const HELD_UNVERIFIED: Duration = Duration::from_hours(24);

impl Accounts {
    /// Refuses the login of a user who must verify the address first.
    pub(in crate::domain) async fn ensure_email_verified(&self, user: &User) -> Result<(), Error> {
        let Some(rule) = self.unmet_requirement(user) else {
            return Ok(());
        };
        if let Some(start) = rule.grace_start(user) {
            let past = self.db.settled(&self.clock).await?.map(Settled::past);
            if past.is_none_or(|past| past < start.plus(GRACE)) {
                return Ok(());
            }
        }
        Err(Error::EmailNotVerified)
    }

    /// Returns the rule, if it applies to the user and the address is not verified. It does not
    /// apply to an address that no mail can go to.
    pub(in crate::domain) fn unmet_requirement(&self, user: &User) -> Option<EmailRequirement> {
        self.email_requirement
            .filter(|_| user.email_verify_time.is_none() && self.mails.reaches(&user.email))
    }

    /// Reminds a user who has just logged in without a verified address to verify it.
    pub(in crate::domain) async fn remind_to_verify(&self, tx: &mut Conn, user: &User) -> Result<(), Error> {
        if self.unmet_requirement(user).is_none() {
            return Ok(());
        }
        let now = self.mails.time.now();
        let last = store::email_reminder(tx, user.id).await?;
        // A reminder from the future was recorded by a clock that was wrong.
        if last.is_some_and(|last| last <= now.plus(ALLOWANCE) && now < last.plus(REMINDER_PAUSE)) {
            return Ok(());
        }
        let (purpose, limit) = (CodePurpose::EmailVerification, MailLimit::Unverified);
        if self.mails.post_code(tx, user, purpose, None, limit).await? == Posted::Yes {
            store::email_reminder_set(tx, user.id, now).await?;
        }
        Ok(())
    }

    /// Returns whether a user other than `owner` has the address with this key, and must give it up
    /// to a user who verifies it.
    pub(in crate::domain) async fn holder_gives_up_email(
        &self,
        tx: &mut Conn,
        owner: Option<UserId>,
        key: &str,
    ) -> Result<bool, Error> {
        if self.email_requirement.is_none() {
            return Ok(false);
        }
        match store::user_by_email(tx, key).await? {
            Some(holder) if owner != Some(holder.id) => self.gives_up_email(tx, &holder).await,
            _ => Ok(false),
        }
    }

    /// Returns whether the holder of an address must give it up to a user who verifies it.
    pub(super) async fn gives_up_email(&self, tx: &mut Conn, holder: &User) -> Result<bool, Error> {
        let Some(rule) = self.unmet_requirement(holder) else {
            return Ok(false);
        };
        // An invited user got the address from an administrator, and keeps it.
        if rule.grace_start(holder).is_some() || holder.invite_time.is_some() {
            return Ok(false);
        }
        let settled = tx.settled(&self.clock).await?;
        Ok(settled.is_some_and(|settled| settled.past() >= email_time(holder).plus(HELD_UNVERIFIED)))
    }
}
