//! Registration.

use shared::{
    db::{Conn, write_tx},
    error::BadField,
    ids::UserId,
};

use super::{Accounts, Act, Email, Error, LoggedIn, Login, Password, PersonName};
use crate::store::{self, NewUser, Role};

/// Who registers.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) email: Email,
    pub(crate) login: Login,
    pub(crate) password: Password,
    pub(crate) first_name: PersonName,
    pub(crate) last_name: PersonName,
    pub(crate) middle_name: PersonName,
}

impl Accounts {
    /// Creates a user with the role `player`, and logs them in.
    pub(crate) async fn register(&self, act: &Act, registration: Registration) -> Result<LoggedIn, Error> {
        if !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        // Before the look-up, so that a taken name costs as long to find out as a free one.
        let hash = self.hashing.hash(registration.password.clone()).await?;
        let now = self.clock.now();
        let new = NewUser {
            id: UserId::generate(),
            login: registration.login.as_str(),
            login_folded: registration.login.folded(),
            email: registration.email.as_str(),
            email_folded: registration.email.folded(),
            password_hash: &hash,
            first_name: registration.first_name.as_str(),
            last_name: registration.last_name.as_str(),
            middle_name: registration.middle_name.as_str(),
            create_time: now,
        };
        write_tx!(self.db, |tx| {
            let mut user = user_create(tx, &new, &[Role::Player]).await?;
            let session = self.sessions.begin(tx, act, &user, now).await?;
            store::user_record_login(tx, user.id, now).await?;
            user.last_login_time = Some(now);
            Ok(LoggedIn { user, tokens: session })
        })
    }
}

/// Inserts the user with these roles, or says which names are taken.
pub(super) async fn user_create(tx: &mut Conn, new: &NewUser<'_>, roles: &[Role]) -> Result<store::User, Error> {
    let mut taken = Vec::new();
    if store::user_by_login(tx, new.login_folded).await?.is_some() {
        taken.push(taken_field("login"));
    }
    if store::user_by_email(tx, new.email_folded).await?.is_some() {
        taken.push(taken_field("email"));
    }
    if !taken.is_empty() {
        return Err(Error::UserAlreadyExists(taken));
    }
    // Another transaction may have taken a name since; then the constraint says which.
    let user = store::user_insert(tx, new).await.map_err(|error| {
        if error.is_unique_violation_of("users", "login_folded") {
            Error::UserAlreadyExists(vec![taken_field("login")])
        } else if error.is_unique_violation_of("users", "email_folded") {
            Error::UserAlreadyExists(vec![taken_field("email")])
        } else {
            error.into()
        }
    })?;
    for role in roles {
        store::user_role_insert(tx, user.id, *role).await?;
    }
    Ok(user)
}

fn taken_field(field: &'static str) -> BadField {
    BadField {
        field: field.into(),
        description: "is taken".into(),
    }
}
