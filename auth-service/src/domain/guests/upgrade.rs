//! Upgrade of a guest to a user with a login, an address and a password. The user keeps their id,
//! and with it all that other services know of them.

use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        feed::{self, Change},
        mail::code_mails::MailLimit,
        passwords::{password::Password, queue::Client},
        request_context::RequestContext,
        sessions::{lifetimes::TokenPair, revocation},
        users::{
            accounts::Accounts,
            names::{Email, Login, PersonName},
            profile::{ensure_free, search_folded, taken},
        },
    },
    mail::Locale,
    model::{CodePurpose, ReservedRole, SessionEnd, User},
    store::{self, ProfileValues},
};

const ACTION: &str = "user.upgrade";

/// Values that turn a guest into a user. Names that are `None` stay as they are.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) login: Login,
    pub(crate) email: Email,
    pub(crate) password: Password,
    pub(crate) first_name: Option<PersonName>,
    pub(crate) last_name: Option<PersonName>,
    pub(crate) middle_name: Option<PersonName>,
    /// Language of mails to the user.
    pub(crate) locale: Option<Locale>,
}

impl Accounts {
    /// Upgrades the actor, ends the other sessions, and replaces the tokens of this session. The
    /// credential of the guest is no longer valid.
    pub(crate) async fn upgrade(
        &self,
        context: &RequestContext,
        upgrade: Upgrade,
    ) -> Result<(User, Option<TokenPair>), Error> {
        let must_verify = self.email_requirement.is_some();
        if must_verify && !self.mails.reaches(upgrade.email.as_str()) {
            return Err(Error::EmailUnreachable);
        }
        let must_log_in = must_verify || self.factors.are_required_of(ReservedRole::Player);
        // Limited like a registration, because the answer also reveals whether a name is taken.
        self.attempts.admit_registration(context)?;
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let present = store::user_by_id(&mut self.db.read().await?, id).await?;
        let present = present.filter(|user| user.is_person() && user.is_active);
        if !present.ok_or(Error::UserNotFound)?.is_guest {
            return Err(Error::NotAGuest);
        }
        // Hashed before the look-up, so that a taken name takes as long as a free one.
        let hash = self
            .hashing
            .hash(&Client::Recognized(id), upgrade.password.clone(), "password")
            .await?;
        let sessions = self.sessions.for_audience_of(context);
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        let upgraded: Result<(User, Option<TokenPair>), Error> = write_tx!(self.db, |tx| {
            let (user, session) = self.lock_actor(tx, context).await?;
            if !user.is_guest {
                return Err(Error::NotAGuest);
            }
            let (login, email) = (&upgrade.login, &upgrade.email);
            let is_taken = self.holder_gives_up_email(tx, Some(id), email.key()).await?;
            let key = (!is_taken).then_some(email.key());
            ensure_free(tx, Some(id), Some(login.folded()), key).await?;
            let now = self.clock.now();
            let end = SessionEnd::PasswordChanged;
            // A user who must verify the address or add a second factor first has no session.
            let kept = (!must_log_in).then_some(session.id);
            let revoked = revocation::log_out_everywhere(tx, id, kept, end, now).await?;
            let values = upgrade.values(&user, is_taken, now);
            let mut user = store::user_set_profile(tx, id, &values).await.map_err(taken)?;
            store::user_upgrade(tx, id, &hash).await?;
            let (purpose, limit) = (CodePurpose::EmailVerification, MailLimit::Unverified);
            self.mails.post_code(tx, &user, purpose, None, limit).await?;
            store::guest_credential_delete(tx, id).await?;
            store::user_role_unassign(tx, id, ReservedRole::Guest.code_name()).await?;
            store::user_role_assign(tx, id, ReservedRole::Player.code_name()).await?;
            user.is_guest = false;
            user.must_change_password = false;
            user.token_version = revoked.token_version;
            user.force_logout_time = Some(now);
            let tokens = if must_log_in {
                None
            } else {
                Some(sessions.replace_tokens(tx, context, &user, &session, now).await?)
            };
            AuditEvent::new(ACTION).user(id).record(tx, context, now).await?;
            let renamed = Change::UserRenamed {
                user_id: id,
                login: user.login.clone(),
            };
            feed::publish(tx, vec![revoked.change, renamed], now).await?;
            Ok((user, tokens))
        });
        if upgraded.is_ok() {
            counts::guest("upgraded");
        }
        upgraded
    }
}

impl Upgrade {
    /// Returns the new values of the profile of a user.
    fn values(&self, user: &User, is_taken: bool, now: base::clock::Timestamp) -> ProfileValues {
        let name =
            |given: &Option<PersonName>, present: &str| given.as_ref().map_or(present, PersonName::as_str).to_owned();
        let first_name = name(&self.first_name, &user.first_name);
        let last_name = name(&self.last_name, &user.last_name);
        let middle_name = name(&self.middle_name, &user.middle_name);
        let names = [first_name.as_str(), &middle_name, &last_name];
        ProfileValues {
            search_folded: search_folded(self.login.folded(), self.email.as_str(), names),
            login: self.login.as_str().to_owned(),
            login_folded: self.login.folded().to_owned(),
            email: self.email.as_str().to_owned(),
            email_folded: Some(if is_taken {
                store::taken_key(user.id)
            } else {
                self.email.key().to_owned()
            }),
            email_is_taken: Some(is_taken),
            key_time: Some(now),
            first_name,
            last_name,
            middle_name,
            locale: self.locale.as_ref().map_or(&*user.locale, Locale::as_str).to_owned(),
            email_verify_time: Some(None),
            email_set_time: Some(now),
            update_time: now,
        }
    }
}
