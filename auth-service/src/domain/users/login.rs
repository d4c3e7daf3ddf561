//! Login.

use base::clock::Settled;
use db::write_tx;
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        factors::challenges::{Challenge, PendingLogin},
        feed,
        mail::notices::Notice,
        passwords::{
            attempts::{Attempt, Attempts, Guess},
            changes::{ensure_fit, ensure_still_verified, replace_at_login},
            hashing::{Stored, Verdict},
            password::Password,
            queue::Client,
        },
        request_context::RequestContext,
        sessions::{lifetimes::TokenPair, plain_logins::PlainLogin},
        tokens::access::RequestedAudience,
        users::{accounts::Accounts, names, people::person_with_password},
    },
    ids::DeviceId,
    model::{AuthMethods, User},
    store,
};

const ACTION: &str = "session.login";
/// Reason in the audit log if there is no such user, or the password is wrong.
const WRONG: &str = "CREDENTIALS_INVALID";
/// Reason in the audit log if the password is right and the user is deactivated. The caller is told
/// [`WRONG`].
const DEACTIVATED: &str = "USER_DEACTIVATED";
/// Reason in the audit log if the password is right, but temporary and expired.
const EXPIRED: &str = "PASSWORD_EXPIRED";

/// A request to log in.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The login or the e-mail address, as typed.
    pub(crate) identifier: String,
    pub(crate) password: Password,
    /// New password, which replaces the present one.
    pub(crate) new_password: Option<Password>,
    /// Device token from an earlier login on this device; empty if there is none.
    pub(crate) device_token: String,
    /// Audience of the access token.
    pub(crate) audience: RequestedAudience,
}

/// A user with a new session.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) user: User,
    pub(crate) tokens: TokenPair,
    /// Token for later logins on the same device.
    pub(crate) device_token: SecretString,
}

/// Outcome of a login with the right password.
#[derive(Debug)]
pub(crate) enum LoginOutcome {
    LoggedIn(Box<LoggedIn>),
    /// A session begins once the second factor has been proved.
    Challenged(Challenge),
}

/// Hashes that a login stores in place of the present one.
struct Hashes {
    /// Hash of the new password.
    new: Option<SecretString>,
    /// Hash of the same password with the current parameters.
    rehash: Option<SecretString>,
}

impl Accounts {
    /// Starts a session, or makes a challenge if the user needs a second factor. An unknown user,
    /// an inactive user and a wrong password get the same answer after the same work.
    pub(crate) async fn login(
        &self,
        context: &RequestContext,
        credentials: Credentials,
    ) -> Result<LoginOutcome, Error> {
        let outcome = self.attempt_login(context, credentials).await;
        // A challenge is counted when it is met.
        if !matches!(outcome, Ok(LoginOutcome::Challenged(_))) {
            counts::login(&outcome);
        }
        outcome
    }

    #[expect(clippy::too_many_lines, reason = "the steps of a login, whose order matters")]
    async fn attempt_login(&self, context: &RequestContext, credentials: Credentials) -> Result<LoginOutcome, Error> {
        // The token is genuine, but may belong to another user. That is checked once the user has
        // been read.
        let named = self.sessions.devices.tokens.open(&credentials.device_token);
        let is_by_device = named.is_some_and(|(device, _)| self.attempts.admits_device_login(device));
        if !is_by_device {
            self.attempts.admit_login(context)?;
        }
        let key = names::identifier_key(credentials.identifier.trim());
        let unknown = Client::Unrecognized {
            bucket: context.origin.bucket,
            name: &key,
        };
        // A refusal here costs no query. The turn itself is taken once the user has been read.
        self.hashing
            .ensure_room(&named.map_or_else(|| unknown.clone(), |(_, owner)| Client::Recognized(owner)))?;
        let mut conn = self.db.read().await?;
        // Service accounts and guests are not found here; they get their tokens elsewhere.
        let found = person_with_password(&mut conn, &key).await?;
        // Hashing takes long, so the connection is released for others.
        drop(conn);

        let device = match &found {
            Some(user) => {
                let devices = &self.sessions.devices;
                devices.known_device(user, &credentials.device_token).await?
            }
            None => None,
        };
        if is_by_device && device.is_none() {
            // A device token of another user, or an old one, does not spare the caller the limits
            // of the address.
            self.attempts.admit_login(context)?;
        }
        let (guess, client) = match (device, &found) {
            (Some(device), Some(user)) => (Guess::Device(device), Client::Recognized(user.id)),
            _ => (Guess::Identifier(&key), unknown),
        };
        let given = credentials.password.clone();
        let (verdict, attempt) = self
            .try_password(context, (guess, &client), found.as_ref(), given)
            .await?;
        let found = match &found {
            Some(found) if found.is_active && verdict != Verdict::Wrong => found,
            found => {
                return Err(self
                    .refuse_login(context, ACTION, (found.as_ref(), verdict), &attempt)
                    .await);
            }
        };
        // From here on, the caller knows the password and may learn more.
        if self.has_expired(found).await? {
            return Err(self.refuse_expired(context, ACTION, found, &attempt).await);
        }
        let prepared = async {
            let sessions = self.sessions.for_audience(&credentials.audience).await?;
            self.ensure_email_verified(found).await?;
            let hashes = self.hashes_to_store(found, verdict, credentials.password, credentials.new_password);
            Ok((sessions, hashes.await?))
        };
        let (sessions, Hashes { new: new_hash, rehash }) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.attempts.settle(&attempt).await?;
                return Err(error);
            }
        };
        let is_noticed = device.is_none() && found.last_login_time.is_some();
        let is_mailed = is_noticed && self.mails.can_notify(found) || self.unmet_requirement(found).is_some();
        // A login that needs a second factor is never plain. A factor or a role that the user gets
        // meanwhile is noticed once the user's row is locked.
        let is_complete = !is_mailed && new_hash.is_none() && rehash.is_none();
        if is_complete && self.passes_without_factor(found).await? {
            let login = PlainLogin {
                verified: found.clone(),
                context: context.clone(),
                device: device.unwrap_or_else(DeviceId::generate),
                methods: AuthMethods::PASSWORD,
                event: AuditEvent::new(ACTION).user(found.id),
                settled: Attempts::success(&attempt),
            };
            if let Some((user, begun)) = sessions.begin_plain(login).await? {
                return Ok(LoginOutcome::LoggedIn(Box::new(LoggedIn {
                    user,
                    tokens: begun.tokens,
                    device_token: begun.device_token,
                })));
            }
        }
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        let logged_in: Result<Option<LoginOutcome>, Error> = write_tx!(self.db, |tx| {
            // The password may have been changed while this one was verified.
            let locked = store::user_lock(tx, found.id).await?;
            let Some(locked) = locked.filter(|user| user.is_active && ensure_still_verified(user, found).is_ok())
            else {
                return Ok(None);
            };
            if let Some(hash) = &rehash {
                store::user_password_rehash(tx, locked.id, hash).await?;
            }
            if let Some(missing) = self.missing_factor(tx, &locked).await? {
                let pending = PendingLogin {
                    audience: &credentials.audience,
                    device,
                    new_password_hash: new_hash.as_ref(),
                    is_email_proven: false,
                };
                let challenge = self.challenge(tx, context, &locked, missing, &pending).await?;
                self.attempts.succeeded(tx, &attempt).await?;
                return Ok(Some(LoginOutcome::Challenged(challenge)));
            }
            // The time is read only now, because another transaction may have held the row long.
            let now = self.clock.now();
            let recorded = store::user_record_login(tx, &locked, now).await?;
            let Some(mut user) = recorded else {
                return Ok(None);
            };
            let mut published = Vec::new();
            if let Some(hash) = &new_hash {
                published.push(replace_at_login(tx, context, &mut user, hash, now).await?);
                let notice = Notice::PasswordChanged;
                self.mails.post_notice(tx, context, &user, notice, now).await?;
            }
            if is_noticed {
                let notice = Notice::DeviceLogin;
                self.mails.post_notice(tx, context, &user, notice, now).await?;
            }
            let by = (AuthMethods::PASSWORD, now);
            let begun = sessions.begin(tx, context, &user, device, by).await?;
            published.extend(begun.changes);
            self.remind_to_verify(tx, &user).await?;
            self.attempts.succeeded(tx, &attempt).await?;
            AuditEvent::new(ACTION)
                .user(user.id)
                .detail("session_id", begun.session_id)
                .record(tx, context, now)
                .await?;
            feed::publish(tx, published, now).await?;
            Ok(Some(LoginOutcome::LoggedIn(Box::new(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            }))))
        });
        match logged_in {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(self
                .refuse_login(context, ACTION, (Some(found), Verdict::Wrong), &attempt)
                .await),
            Err(error) => {
                // The password was right, so nobody has to wait because of it.
                if matches!(error, Error::TooManyMails(_)) {
                    self.attempts.settle(&attempt).await?;
                }
                Err(error)
            }
        }
    }

    /// Returns whether the password is a temporary one that has expired. Another process may have
    /// set it, by a clock of its own.
    async fn has_expired(&self, user: &User) -> Result<bool, Error> {
        let Some(time) = user.password_expire_time(self.temporary_password_life) else {
            return Ok(false);
        };
        // A clock that may be wrong ends no password.
        let past = self.db.settled(&self.clock).await?.map(Settled::past);
        Ok(past.is_some_and(|past| past >= time))
    }

    /// Records a login that is refused although the password is right, because it has expired.
    async fn refuse_expired(
        &self,
        context: &RequestContext,
        action: &'static str,
        user: &User,
        attempt: &Attempt,
    ) -> Error {
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            self.attempts.succeeded(tx, attempt).await?;
            let event = AuditEvent::new(action).user(user.id).refused(EXPIRED);
            Ok(event.record(tx, context, self.clock.now()).await?)
        });
        audited.err().unwrap_or(Error::PasswordExpired)
    }

    async fn hashes_to_store(
        &self,
        found: &User,
        verdict: Verdict,
        password: Password,
        new_password: Option<Password>,
    ) -> Result<Hashes, Error> {
        if let Some(new) = new_password {
            ensure_fit(&new, found, "new_password")?;
            let client = Client::Recognized(found.id);
            return Ok(Hashes {
                new: Some(self.hashing.hash(&client, new, "new_password").await?),
                rehash: None,
            });
        }
        if found.must_change_password {
            return Err(Error::PasswordChangeRequired);
        }
        let rehash = match verdict {
            Verdict::RightButOutdated => match self.hashing.rehash(&Client::Recognized(found.id), password).await {
                // The next login tries again.
                Err(Error::HashingQueueFull(_)) => None,
                hash => Some(hash?),
            },
            Verdict::Right | Verdict::Wrong => None,
        };
        Ok(Hashes { new: None, rehash })
    }

    /// Returns the active user with this identifier and password, without a login. Guesses are
    /// limited, counted and refused as at a login. The audit log records them as failures of
    /// `action`.
    pub(in crate::domain) async fn verify_identified(
        &self,
        context: &RequestContext,
        identifier: &str,
        password: Password,
        action: &'static str,
    ) -> Result<User, Error> {
        self.attempts.admit_login(context)?;
        let key = names::identifier_key(identifier.trim());
        let client = Client::Unrecognized {
            bucket: context.origin.bucket,
            name: &key,
        };
        self.hashing.ensure_room(&client)?;
        let found = person_with_password(&mut self.db.read().await?, &key).await?;
        let guess = Guess::Identifier(&key);
        let (verdict, attempt) = self
            .try_password(context, (guess, &client), found.as_ref(), password)
            .await?;
        match found {
            Some(found) if found.is_active && verdict != Verdict::Wrong => {
                if self.has_expired(&found).await? {
                    return Err(self.refuse_expired(context, action, &found, &attempt).await);
                }
                self.attempts.settle(&attempt).await?;
                Ok(found)
            }
            found => Err(self
                .refuse_login(context, action, (found.as_ref(), verdict), &attempt)
                .await),
        }
    }

    /// Verifies a password, after the guess has been counted. A user who does not exist costs the
    /// same work.
    async fn try_password(
        &self,
        context: &RequestContext,
        (guess, client): (Guess<'_>, &Client<'_>),
        found: Option<&User>,
        password: Password,
    ) -> Result<(Verdict, Attempt), Error> {
        self.present_costs.refresh().await?;
        let guess = self.attempts.check_wait(context, guess).await?;
        let permit = self.hashing.permit(client).await?;
        let attempt = self.attempts.count(guess).await?;
        let stored = found.map_or(Stored::Nobody, |user| {
            let hash = user.password_hash.clone();
            if user.is_active {
                Stored::User(hash)
            } else {
                Stored::Barred(hash)
            }
        });
        Ok((self.hashing.verify(permit, password, stored).await?, attempt))
    }

    /// Records a failed login in the audit log, in a transaction that is the same for every
    /// identifier. The identifier itself is not recorded, because it may be a password that was
    /// typed into the wrong field.
    async fn refuse_login(
        &self,
        context: &RequestContext,
        action: &'static str,
        (found, verdict): (Option<&User>, Verdict),
        attempt: &Attempt,
    ) -> Error {
        let is_right = found.is_some() && verdict != Verdict::Wrong;
        let reason = if is_right { DEACTIVATED } else { WRONG };
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            let event = AuditEvent::new(action)
                .named_user(found.map(|user| user.id))
                .refused(reason);
            attempt.note(event).record(tx, context, self.clock.now()).await?;
            Ok(())
        });
        audited.err().unwrap_or(Error::CredentialsInvalid)
    }
}
