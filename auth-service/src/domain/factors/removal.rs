//! Removal of second factors: by their user, or by an administrator for a user who has lost them.

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::UserId,
};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        mail::notices::Notice,
        rbac::authority,
        request_context::RequestContext,
        sessions::revocation,
        users::{accounts::Accounts, people::user_lock_person},
    },
    ids::FactorId,
    model::{AuthMethods, Authentication, User},
    store,
};

impl Accounts {
    /// Removes a factor of the actor. With the last one, the recovery codes go.
    pub(crate) async fn delete_factor(&self, context: &RequestContext, id: FactorId) -> Result<(), Error> {
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            let factors = store::totp_factors(tx, user.id).await?;
            let (removed, rest): (Vec<_>, Vec<_>) = factors.iter().partition(|factor| factor.id == id);
            let removed = removed.first().ok_or(Error::FactorNotFound)?;
            store::totp_factor_delete(tx, id).await?;
            let now = self.clock.now();
            let event = AuditEvent::new("factor.delete").target("factor", id);
            event.concerning(user.id).record(tx, context, now).await?;
            if removed.confirm_time.is_none() {
                return Ok(feed::settle(tx).await?);
            }
            if rest.iter().all(|factor| factor.confirm_time.is_none()) {
                forget_second_factors(tx, user.id).await?;
            }
            let change = self.distrust(tx, context, &user, now).await?;
            Ok(feed::publish(tx, vec![change], now).await?)
        })
    }

    /// Removes all second factors and recovery codes of a user. The user hears of it by mail.
    pub(crate) async fn reset_factors(&self, context: &RequestContext, id: UserId) -> Result<(), Error> {
        let event = AuditEvent::new("user.reset_second_factors").user(id);
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        recording_refusals(self, context, event.clone(), async {
            if context.user_id() == Some(id) {
                return Err(Error::OwnAccount);
            }
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                authority::ensure_may_act_on(tx, context, id).await?;
                let now = self.clock.now();
                event.record(tx, context, now).await?;
                forget_second_factors(tx, id).await?;
                if !user.has_second_factor {
                    return Ok(feed::settle(tx).await?);
                }
                let change = self.distrust(tx, context, &user, now).await?;
                Ok(feed::publish(tx, vec![change], now).await?)
            })
        })
        .await
    }

    /// Removes the factors of a user who has just proved for the first time, by a mailed code, that
    /// they receive mail at their address. Someone else may have registered the account with
    /// that address, and added a factor that would keep its owner out. Once the address is proved,
    /// a reset of the password leaves the factors. The row is locked, and every session has ended.
    pub(in crate::domain) async fn forget_factors_before_proof(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: User,
        now: Timestamp,
    ) -> Result<User, Error> {
        if !user.has_second_factor {
            return Ok(user);
        }
        forget_second_factors(tx, user.id).await?;
        self.tell_of_removal(tx, context, &user, ("address_proved", now))
            .await?;
        Ok(User {
            has_second_factor: false,
            ..user
        })
    }

    /// Removes the factors and recovery codes that were added after this time, because someone else
    /// had taken the account over by then. The row is locked, and every session has ended.
    pub(in crate::domain) async fn forget_factors_since(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        since: Timestamp,
    ) -> Result<(), Error> {
        // Another process may have added them, by a clock of its own.
        let since = since.minus(ALLOWANCE);
        store::recovery_codes_delete_since(tx, user.id, since).await?;
        let mut is_left = false;
        let mut is_removed = false;
        for factor in store::totp_factors(tx, user.id).await? {
            match factor.confirm_time {
                Some(time) if time < since => is_left = true,
                confirm_time => {
                    store::totp_factor_delete(tx, factor.id).await?;
                    is_removed |= confirm_time.is_some();
                }
            }
        }
        if !is_removed {
            return Ok(());
        }
        if !is_left {
            forget_second_factors(tx, user.id).await?;
        }
        let now = self.clock.now();
        self.tell_of_removal(tx, context, user, ("email_reverted", now)).await
    }

    async fn tell_of_removal(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        (why, now): (&'static str, Timestamp),
    ) -> Result<(), Error> {
        let notice = Notice::SecondFactorRemoved;
        self.mails.post_notice(tx, context, user, notice, now).await?;
        let event = AuditEvent::new("factor.delete").user(user.id).detail("why", why);
        Ok(event.record(tx, context, now).await?)
    }

    /// Lets no token count as one of two factors that the removed one may have given. The sessions
    /// go on.
    async fn distrust(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        now: Timestamp,
    ) -> Result<Change, Error> {
        let [two, one] = [AuthMethods::PASSWORD_AND_CODE, AuthMethods::PASSWORD].map(|it| Authentication::new(now, it));
        let weaker = (one.methods.as_str(), one.acr.as_str());
        store::sessions_forget_second_factor(tx, user.id, weaker, two.acr.as_str()).await?;
        let notice = Notice::SecondFactorRemoved;
        self.mails.post_notice(tx, context, user, notice, now).await?;
        let (_, change) = revocation::make_stale(tx, user.id).await?;
        Ok(change)
    }
}

/// Deletes everything by which the user could pass a second factor.
async fn forget_second_factors(tx: &mut Conn, id: UserId) -> db::Result<()> {
    store::totp_factors_delete(tx, id).await?;
    store::recovery_codes_delete(tx, id).await?;
    store::login_challenges_delete(tx, id).await?;
    store::user_set_has_second_factor(tx, id, false).await
}
