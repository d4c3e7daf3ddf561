//! Registration.

use base::{clock::Timestamp, ids::UserId};
use db::{Conn, write_tx};
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        factors::{
            challenges::{Challenge, PendingLogin},
            proof::Missing,
        },
        feed,
        mail::code_mails::MailLimit,
        passwords::{password::Password, queue::Client},
        request_context::RequestContext,
        tokens::access::RequestedAudience,
        users::{
            accounts::Accounts,
            login::LoggedIn,
            names::{Email, Login, PersonName},
            profile::{ensure_free, search_folded, taken},
        },
    },
    mail::Locale,
    model::{AuthMethods, CodePurpose, ReservedRole, User},
    store::{self, NewUser},
};

/// A user to create, without the password.
#[derive(Debug)]
pub(crate) struct NewPerson {
    pub(crate) email: Email,
    pub(crate) login: Login,
    pub(crate) first_name: PersonName,
    pub(crate) last_name: PersonName,
    pub(crate) middle_name: PersonName,
    /// Language of mails to the user.
    pub(crate) locale: Locale,
}

/// A user to create, with the password.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) person: NewPerson,
    pub(crate) password: Password,
}

/// A user who has registered.
#[derive(Debug)]
pub(crate) enum Registered {
    LoggedIn(Box<LoggedIn>),
    /// The user must verify the address before they log in.
    Unverified(Box<User>),
    /// The user must add a second factor before the first session begins.
    Challenged(Box<User>, Challenge),
}

/// Whether a new user owns the key of the address, by which users are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmailKey {
    Own,
    /// Another user has it, and gives it up once the new one has verified the address.
    Taken,
}

/// A password as it is stored with a new user.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) struct NewPassword<'a> {
    pub(in crate::domain) hash: &'a SecretString,
    /// Whether the user must change it at the first login.
    pub(in crate::domain) is_temporary: bool,
    /// Time before which a temporary password does not expire, whatever its age.
    pub(in crate::domain) min_expire_time: Option<Timestamp>,
}

impl Accounts {
    /// Creates a user with the role `player`, and logs them in. A user who must verify the address
    /// or add a second factor first gets no session yet.
    pub(crate) async fn register(
        &self,
        context: &RequestContext,
        registration: Registration,
        audience: &RequestedAudience,
    ) -> Result<Registered, Error> {
        self.attempts.admit_registration(context)?;
        if !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        if self.email_requirement.is_some() && !self.mails.reaches(registration.person.email.as_str()) {
            return Err(Error::EmailUnreachable);
        }
        let sessions = self.sessions.for_audience(audience).await?;
        // Hashed before the look-up, so that a taken name takes as long as a free one.
        let client = Client::Unrecognized {
            bucket: context.origin.bucket,
            name: registration.person.login.folded(),
        };
        let hash = self
            .hashing
            .hash(&client, registration.password.clone(), "password")
            .await?;
        let now = self.clock.now();
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        write_tx!(self.db, |tx| {
            let password = NewPassword {
                hash: &hash,
                is_temporary: false,
                min_expire_time: None,
            };
            let person = &registration.person;
            let user = if self.holder_gives_up_email(tx, None, person.email.key()).await? {
                ensure_free(tx, None, Some(person.login.folded()), None).await?;
                insert(tx, person, password, EmailKey::Taken, now).await?
            } else {
                user_create(tx, person, password, now).await?
            };
            store::user_role_insert(tx, user.id, ReservedRole::Player).await?;
            let (purpose, limit) = (CodePurpose::EmailVerification, MailLimit::Unverified);
            self.mails.post_code(tx, &user, purpose, None, limit).await?;
            if self.email_requirement.is_some() {
                AuditEvent::new("user.register")
                    .user(user.id)
                    .record(tx, context, now)
                    .await?;
                return Ok(Registered::Unverified(Box::new(user)));
            }
            if self.factors.are_required_of(ReservedRole::Player) {
                let pending = PendingLogin {
                    audience,
                    device: None,
                    new_password_hash: None,
                    // The user has just chosen the password, so nobody can have stolen it.
                    is_email_proven: true,
                };
                let challenge = self.challenge(tx, context, &user, Missing::Enrolment, &pending).await?;
                AuditEvent::new("user.register")
                    .user(user.id)
                    .record(tx, context, now)
                    .await?;
                return Ok(Registered::Challenged(Box::new(user), challenge));
            }
            let by = (AuthMethods::PASSWORD, now);
            let begun = sessions.begin(tx, context, &user, None, by).await?;
            let recorded = store::user_record_login(tx, &user, now).await?;
            let user = recorded.ok_or(Error::UserNotFound)?;
            AuditEvent::new("user.register")
                .user(user.id)
                .record(tx, context, now)
                .await?;
            feed::publish(tx, begun.changes, now).await?;
            Ok(Registered::LoggedIn(Box::new(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            })))
        })
    }
}

/// Inserts a user without any role. Fails if names are taken, and says which.
pub(in crate::domain) async fn user_create(
    tx: &mut Conn,
    person: &NewPerson,
    password: NewPassword<'_>,
    now: Timestamp,
) -> Result<User, Error> {
    ensure_free(tx, None, Some(person.login.folded()), Some(person.email.key())).await?;
    insert(tx, person, password, EmailKey::Own, now).await
}

async fn insert(
    tx: &mut Conn,
    person: &NewPerson,
    password: NewPassword<'_>,
    key: EmailKey,
    now: Timestamp,
) -> Result<User, Error> {
    let (login, email) = (&person.login, &person.email);
    let id = UserId::generate();
    let [first, middle, last] = [&person.first_name, &person.middle_name, &person.last_name].map(PersonName::as_str);
    let new = NewUser {
        id,
        login: login.as_str(),
        login_folded: login.folded(),
        email: email.as_str(),
        email_folded: match key {
            EmailKey::Own => email.key(),
            EmailKey::Taken => &store::taken_key(id),
        },
        email_is_taken: key == EmailKey::Taken,
        password_hash: password.hash,
        first_name: first,
        last_name: last,
        middle_name: middle,
        search_folded: &search_folded(login.folded(), email.as_str(), [first, middle, last]),
        must_change_password: password.is_temporary,
        min_password_expire_time: password.min_expire_time,
        locale: person.locale.as_str(),
        is_guest: false,
        create_time: now,
    };
    store::user_insert(tx, &new).await.map_err(taken)
}
