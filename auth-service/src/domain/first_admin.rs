//! The first administrator. Never whoever registers first.

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use shared::{
    clock::Clock,
    config::StartError,
    db::{Db, write_tx},
    ids::UserId,
};

use super::{Email, Error, HashingPool, HashingSettings, Login, Password, registration::user_create};
use crate::{
    config::AuthSettings,
    store::{self, NewUser, Role},
};

const LOGIN: &str = "admin";
const EMAIL: &str = "admin@localhost";
/// Of randomness, so that nobody guesses it whatever the limits.
const PASSWORD_BYTES: usize = 15;

/// An administrator who was just made.
#[derive(Debug)]
pub struct FirstAdmin {
    /// The login.
    pub login: &'static str,
    /// The password, which is stored nowhere else but hashed.
    pub password: SecretString,
}

/// Makes the user `admin`, a superuser, with a random password, unless there is a superuser.
pub async fn ensure_first_admin(
    db: &Db,
    settings: &AuthSettings,
    clock: &Clock,
) -> Result<Option<FirstAdmin>, StartError> {
    let mut conn = db.read().await.map_err(StartError::failed)?;
    let exists = store::users_with_role_exist(&mut conn, Role::Superuser)
        .await
        .map_err(StartError::failed)?;
    drop(conn);
    if exists {
        return Ok(None);
    }
    make(db, settings.hashing(), clock)
        .await
        .map_err(|error| StartError::failed(format!("cannot make the first administrator: {error}")))
}

async fn make(db: &Db, hashing: HashingSettings, clock: &Clock) -> Result<Option<FirstAdmin>, Error> {
    let mut bytes = [0; PASSWORD_BYTES];
    rand::fill(&mut bytes).map_err(|_| Error::Internal("no random bytes".to_owned()))?;
    let password = SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let chosen = Password::chosen(password.expose_secret()).map_err(|error| internal(&error))?;
    let login: Login = LOGIN.parse().map_err(|error| internal(&error))?;
    let email: Email = EMAIL.parse().map_err(|error| internal(&error))?;
    let hash = HashingPool::new(hashing)?.hash(chosen).await?;
    write_tx!(db, |tx| {
        if store::users_with_role_exist(tx, Role::Superuser).await? {
            return Ok(None);
        }
        let new = NewUser {
            id: UserId::generate(),
            login: login.as_str(),
            login_folded: login.folded(),
            email: email.as_str(),
            email_folded: email.folded(),
            password_hash: &hash,
            first_name: "",
            last_name: "",
            middle_name: "",
            create_time: clock.now(),
        };
        user_create(tx, &new, &[Role::Superuser, Role::Admin, Role::Player]).await?;
        Ok(Some(FirstAdmin { login: LOGIN, password }))
    })
}
