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

use super::{Email, Error, HashingPool, HashingSettings, Login, Password, hashing::Verdict, registration::user_create};
use crate::{
    config::AuthSettings,
    store::{self, NewUser, Role},
};

const LOGIN: &str = "admin";
const EMAIL: &str = "admin@localhost";
/// Of randomness, so that nobody guesses it whatever the limits.
const PASSWORD_BYTES: usize = 15;

/// A random password, and one that nobody guesses.
pub fn generate_password() -> SecretString {
    let mut bytes = [0; PASSWORD_BYTES];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Makes the user `admin`, a superuser, unless there is a superuser. Gives the password if it made one. `password` is asked for it
/// before anything is written, so that it can be kept in time.
pub async fn ensure_first_admin(
    db: &Db,
    settings: &AuthSettings,
    clock: &Clock,
    password: impl FnOnce() -> Result<SecretString, StartError>,
) -> Result<Option<SecretString>, StartError> {
    let mut conn = db.read().await.map_err(StartError::failed)?;
    let exists = store::users_with_role_exist(&mut conn, Role::Superuser)
        .await
        .map_err(StartError::failed)?;
    drop(conn);
    if exists {
        return Ok(None);
    }
    let password = password()?;
    let made = make(db, settings.hashing(), clock, &password).await;
    let made = made.map_err(|error| StartError::Failed(format!("cannot make the first administrator: {error}")))?;
    Ok(made.then_some(password))
}

/// Whether this may still be the password of the user `admin`: it is, or there is no user of this login any more.
///
/// It costs a hash or two, on threads that may block.
pub async fn is_first_admin_password(
    db: &Db,
    settings: &AuthSettings,
    password: &SecretString,
) -> Result<bool, StartError> {
    let mut conn = db.read().await.map_err(StartError::failed)?;
    let user = store::user_by_login(&mut conn, LOGIN).await;
    drop(conn);
    let Some(user) = user.map_err(StartError::failed)? else {
        return Ok(true);
    };
    let Ok(password) = Password::presented(password.expose_secret()) else {
        return Ok(false);
    };
    let settings = settings.hashing();
    let pool = tokio::task::spawn_blocking(move || HashingPool::new(settings)).await;
    let pool = pool.map_err(StartError::failed)?.map_err(StartError::failed)?;
    let verdict = pool.verify(password, Some(user.password_hash)).await;
    Ok(verdict.map_err(StartError::failed)? != Verdict::Wrong)
}

async fn make(db: &Db, hashing: HashingSettings, clock: &Clock, password: &SecretString) -> Result<bool, Error> {
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let chosen = Password::chosen(password.expose_secret()).map_err(|error| internal(&error))?;
    let login: Login = LOGIN.parse().map_err(|error| internal(&error))?;
    let email: Email = EMAIL.parse().map_err(|error| internal(&error))?;
    let hash = HashingPool::new(hashing)?.hash(chosen).await?;
    write_tx!(db, |tx| {
        if store::users_with_role_exist(tx, Role::Superuser).await? {
            return Ok(false);
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
        Ok(true)
    })
}
