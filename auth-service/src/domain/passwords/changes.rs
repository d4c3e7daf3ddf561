//! Changes of passwords: by their owner, who knows the current one, or by an administrator, who
//! sets a temporary one.
//!
//! Hashing takes long, so it is done outside of the transaction. The transaction then checks that
//! the verified password is still the current one.

use base::{clock::Timestamp, ids::UserId, validate::InvalidFields};
use db::{Conn, write_tx};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        mail::notices::Notice,
        passwords::{
            attempts::Guess,
            hashing::{Stored, Verdict},
            password::Password,
            queue::Client,
        },
        rbac::authority,
        request_context::RequestContext,
        sessions::{lifetimes::TokenPair, revocation},
        users::{accounts::Accounts, names, people::user_lock_person},
    },
    model::{Session, SessionEnd, User},
    store,
};

/// The current password and the new one.
#[derive(Debug)]
pub(crate) struct PasswordChange {
    /// The current password; `None` if the user has none.
    pub(crate) current: Option<Password>,
    pub(crate) new: Password,
}

impl Accounts {
    /// Changes the actor's password, ends the other sessions, and replaces the tokens of this
    /// session.
    pub(crate) async fn change_password(
        &self,
        context: &RequestContext,
        change: PasswordChange,
    ) -> Result<TokenPair, Error> {
        let found = self
            .verify_actor_or_recent_login(context, change.current, "user.change_password")
            .await?;
        ensure_fit(&change.new, &found, "new_password")?;
        let client = Client::Recognized(found.id);
        let hash = self.hashing.hash(&client, change.new, "new_password").await?;
        let sessions = self.sessions.for_audience_of(context);
        write_tx!(self.db, |tx| {
            let (mut user, session) = self.lock_actor(tx, context).await?;
            ensure_still_verified(&user, &found)?;
            let now = self.clock.now();
            let end = SessionEnd::PasswordChanged;
            let revoked = revocation::log_out_everywhere(tx, user.id, Some(session.id), end, now).await?;
            store::user_set_password(tx, user.id, &hash, false).await?;
            user.token_version = revoked.token_version;
            let tokens = sessions.replace_tokens(tx, context, &user, &session, now).await?;
            let notice = Notice::PasswordChanged;
            self.mails.post_notice(tx, context, &user, notice, now).await?;
            AuditEvent::new("user.change_password")
                .user(user.id)
                .record(tx, context, now)
                .await?;
            feed::publish(tx, vec![revoked.change], now).await?;
            Ok(tokens)
        })
    }

    /// Sets a temporary password, which the user must change at the next login. Ends every session
    /// of the user. Returns the time when the password expires.
    pub(crate) async fn set_password(
        &self,
        context: &RequestContext,
        id: UserId,
        password: Password,
    ) -> Result<Timestamp, Error> {
        let event = AuditEvent::new("user.set_password").user(id);
        recording_refusals(self, context, event.clone(), async {
            let mut conn = self.db.read().await?;
            let found = store::user_by_id(&mut conn, id).await?.filter(User::is_person);
            let found = found.ok_or(Error::UserNotFound)?;
            if context.user_id() == Some(id) {
                return Err(Error::OwnAccount);
            }
            // Checked before the hash, which is expensive, and again below in the transaction.
            authority::ensure_may_act_on(&mut conn, context, id).await?;
            if found.is_guest {
                return Err(Error::GuestAccount);
            }
            drop(conn);
            ensure_fit(&password, &found, "password")?;
            let client = context.user_id().map_or(Client::Own, Client::Recognized);
            let hash = self.hashing.hash(&client, password, "password").await?;
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                authority::ensure_may_act_on(tx, context, id).await?;
                let now = self.clock.now();
                let revoked =
                    revocation::log_out_everywhere(tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
                store::user_set_password(tx, user.id, &hash, true).await?;
                let notice = Notice::PasswordChanged;
                self.mails.post_notice(tx, context, &user, notice, now).await?;
                event.record(tx, context, now).await?;
                feed::publish(tx, vec![revoked.change], now).await?;
                Ok(now.plus(self.temporary_password_life))
            })
        })
        .await
    }

    /// Verifies the actor's current password, and returns the actor. Guesses are limited as at a
    /// login. A wrong password is recorded in the audit log as a refusal of `action`.
    pub(in crate::domain) async fn verify_actor(
        &self,
        context: &RequestContext,
        password: Password,
        action: &'static str,
    ) -> Result<User, Error> {
        self.attempts.admit_login(context)?;
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        self.hashing.ensure_room(&Client::Recognized(id))?;
        let mut conn = self.db.read().await?;
        let found = store::user_by_id(&mut conn, id).await?;
        let found = found.filter(|user| user.is_active && user.is_person());
        let found = found.ok_or(Error::UserNotFound)?;
        drop(conn);
        if found.is_guest {
            return Err(Error::GuestAccount);
        }
        let guess = self.attempts.check_wait(context, Guess::Current(id)).await?;
        let permit = self.hashing.permit(&Client::Recognized(id)).await?;
        let attempt = self.attempts.count(guess).await?;
        let hash = Stored::User(found.password_hash.clone());
        if self.hashing.verify(permit, password, hash).await? != Verdict::Wrong {
            self.attempts.settle(&attempt).await?;
            return Ok(found);
        }
        let refused: Result<(), Error> = write_tx!(self.db, |tx| {
            let event = AuditEvent::new(action).user(id).refused("CURRENT_PASSWORD_WRONG");
            attempt.note(event).record(tx, context, self.clock.now()).await?;
            Ok(())
        });
        refused?;
        Err(Error::CurrentPasswordWrong)
    }

    /// Locks the actor's row. Returns the actor and the session in which they act. Fails if either
    /// has ended, because an access token may outlive both, or if the token has become stale.
    pub(in crate::domain) async fn lock_actor(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
    ) -> Result<(User, Session), Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let user = user_lock_person(tx, id).await?;
        if !user.is_active {
            return Err(Error::UserNotFound);
        }
        let session_id = context.session_id().ok_or(Error::SessionEnded)?;
        let session = store::session_by_id(tx, session_id).await?;
        let now = self.clock.now();
        let live = |session: &Session| session.user_id == id && !session.has_ended() && now < session.expire_time;
        let session = session.filter(live).ok_or(Error::SessionEnded)?;
        // A change of the user's password, login or roles makes the token stale as well.
        authority::ensure_still_good(tx, context).await?;
        Ok((user, session))
    }
}

/// Fails if the password has changed since it was verified. `verified` is the user as read at that
/// time.
///
/// A login stores a new hash of the same password if the hashing parameters have changed. A new
/// password also raises the token version.
pub(in crate::domain) fn ensure_still_verified(user: &User, verified: &User) -> Result<(), Error> {
    let is_same_hash = user.password_hash.expose_secret() == verified.password_hash.expose_secret();
    if is_same_hash || user.token_version == verified.token_version {
        Ok(())
    } else {
        Err(Error::CurrentPasswordWrong)
    }
}

/// Replaces the password during a login, after the old one was verified, in the transaction of the
/// login. Ends every earlier session and token. The caller publishes the returned change.
pub(in crate::domain) async fn replace_at_login(
    tx: &mut Conn,
    context: &RequestContext,
    user: &mut User,
    hash: &SecretString,
    now: Timestamp,
) -> Result<Change, Error> {
    let revoked = revocation::log_out_everywhere(tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
    store::user_set_password(tx, user.id, hash, false).await?;
    user.token_version = revoked.token_version;
    user.must_change_password = false;
    user.force_logout_time = Some(now);
    AuditEvent::new("user.change_password")
        .user(user.id)
        .record(tx, context, now)
        .await?;
    Ok(revoked.change)
}

/// Refuses a password that is the login or the address of its owner.
pub(in crate::domain) fn ensure_fit(
    password: &Password,
    owner: &User,
    field: &'static str,
) -> Result<(), InvalidFields> {
    if password.is_one_of(&[&owner.login, &owner.email].map(|name| names::identifier_key(name))) {
        return Err(InvalidFields::one(field, "must not be the login or the e-mail address"));
    }
    Ok(())
}
