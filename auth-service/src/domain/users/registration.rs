//! Registration.

use base::{clock::Timestamp, ids::UserId};
use db::{Conn, write_tx};
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed,
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
    model::{ReservedRole, User},
    store::{self, NewUser},
};

/// A user to register.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) email: Email,
    pub(crate) login: Login,
    pub(crate) password: Password,
    pub(crate) first_name: PersonName,
    pub(crate) last_name: PersonName,
    pub(crate) middle_name: PersonName,
    /// Language of mails to the user.
    pub(crate) locale: Locale,
}

/// A password as it is stored with a new user.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) struct NewPassword<'a> {
    pub(in crate::domain) hash: &'a SecretString,
    /// Whether the user must change it at the first login.
    pub(in crate::domain) is_temporary: bool,
}

impl Accounts {
    /// Creates a user with the role `player`, and logs them in.
    pub(crate) async fn register(
        &self,
        context: &RequestContext,
        registration: Registration,
        audience: &RequestedAudience,
    ) -> Result<LoggedIn, Error> {
        self.attempts.admit_registration(context)?;
        if !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        let sessions = self.sessions.for_audience(audience).await?;
        // Hashed before the look-up, so that it takes as long to find out that a name is taken as
        // that it is free.
        let client = Client::Unrecognized {
            bucket: context.origin.bucket,
            name: registration.login.folded(),
        };
        let hash = self.hashing.hash(&client, registration.password.clone()).await?;
        let now = self.clock.now();
        write_tx!(self.db, |tx| {
            let password = NewPassword {
                hash: &hash,
                is_temporary: false,
            };
            let user = user_create(tx, &registration, password, now).await?;
            store::user_role_insert(tx, user.id, ReservedRole::Player).await?;
            let begun = sessions.begin(tx, context, &user, None, now).await?;
            let recorded = store::user_record_login(tx, &user, now).await?;
            let user = recorded.ok_or(Error::UserNotFound)?;
            AuditEvent::new("user.register")
                .user(user.id)
                .record(tx, context, now)
                .await?;
            feed::publish(tx, begun.changes, now).await?;
            Ok(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            })
        })
    }
}

/// Inserts the user without any role. Fails if names are taken, and says which.
pub(in crate::domain) async fn user_create(
    tx: &mut Conn,
    registration: &Registration,
    password: NewPassword<'_>,
    now: Timestamp,
) -> Result<User, Error> {
    let (login, email) = (&registration.login, &registration.email);
    ensure_free(tx, None, Some(login.folded()), Some(email.key())).await?;
    let [first, middle, last] = [
        &registration.first_name,
        &registration.middle_name,
        &registration.last_name,
    ]
    .map(PersonName::as_str);
    let new = NewUser {
        id: UserId::generate(),
        login: login.as_str(),
        login_folded: login.folded(),
        email: email.as_str(),
        email_folded: email.key(),
        password_hash: password.hash,
        first_name: first,
        last_name: last,
        middle_name: middle,
        search_folded: &search_folded(login.folded(), email.as_str(), [first, middle, last]),
        must_change_password: password.is_temporary,
        locale: registration.locale.as_str(),
        is_guest: false,
        create_time: now,
    };
    store::user_insert(tx, &new).await.map_err(taken)
}
