//! The first administrator. It is never simply the user who registers first.

use std::time::Duration;

use aws_lc_rs::rand;
use base::{
    StartError,
    clock::{Clock, Timestamp},
    ids::UserId,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use db::{Conn, Db, write_tx};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    config::AuthSettings,
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed::CHANNEL,
        passwords::{
            hashing::{HashingPool, Stored, Verdict},
            password::{Password, PasswordRules},
            queue::Client,
        },
        request_context::RequestContext,
        users::{
            names::{Email, Login, PersonName},
            registration::{NewPassword, NewPerson, Registration, user_create},
        },
    },
    mail::Locale,
    model::{ReservedRole, User},
    store,
};

/// Time before which a password that the operator gave to an administrator does not expire: the end
/// of the year 9999. There may be no other administrator who could set a new one.
const NEVER: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);

const LOGIN: &str = "admin";
const EMAIL: &str = "admin@localhost";
/// Number of random bytes in the password: too many to guess, whatever the limits on attempts are.
const PASSWORD_BYTES: usize = 15;
/// Interval of checks of the stored password if no notification arrives.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// Returns a random password that cannot be guessed.
pub fn generate_password() -> SecretString {
    let mut bytes = [0; PASSWORD_BYTES];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Creates the user `admin`, a superuser, unless there is a superuser. Returns the password if it
/// created the user. `password` is called before anything is written, so that the caller can store
/// the password first. The user must change it at the first login, unless the settings say
/// otherwise.
///
/// Does nothing if the settings contain a password. Then the service itself creates the user at its
/// start.
pub async fn ensure_first_admin(
    db: &Db,
    settings: &AuthSettings,
    clock: &Clock,
    password: impl FnOnce() -> Result<SecretString, StartError>,
) -> Result<Option<SecretString>, StartError> {
    if settings.has_bootstrap_password() || superuser_exists(db).await? {
        return Ok(None);
    }
    let password = password()?;
    let hashing = HashingPool::new(settings.hashing()).map_err(StartError::setting)?;
    let is_temporary = settings.first_admin_must_change_password;
    let made = make_first(db, &hashing, clock, (&password, PasswordRules::default()), is_temporary).await?;
    Ok(made.then_some(password))
}

/// Waits until `password` is no longer the password of the user `admin`. Waits forever if no user
/// has this login, since the first administrator may have changed it.
///
/// The first check hashes the password once, on a blocking thread.
pub async fn first_admin_password_changed(
    db: &Db,
    settings: &AuthSettings,
    password: &SecretString,
) -> Result<(), StartError> {
    // Subscribes before the first check, so that no later change is missed. Every password change
    // is sent through the access feed.
    let mut news = db.subscribe(CHANNEL);
    let user = store::user_by_login(&mut db.read().await?, LOGIN).await?;
    let Some(mut user) = user else {
        return std::future::pending().await;
    };
    if !is_password_of(&user, settings, password).await? {
        return Ok(());
    }
    loop {
        news.notified_within(CHECK_INTERVAL).await;
        // If the database fails, the next check tries again.
        let Ok(mut conn) = db.read().await else { continue };
        let Ok(now) = store::user_by_id(&mut conn, user.id).await else {
            continue;
        };
        drop(conn);
        let Some(now) = now else { return Ok(()) };
        if now.password_hash.expose_secret() == user.password_hash.expose_secret() {
            continue;
        }
        // A login stores a new hash of the same password if the hashing parameters have changed.
        if !is_password_of(&now, settings, password).await? {
            return Ok(());
        }
        user = now;
    }
}

async fn is_password_of(user: &User, settings: &AuthSettings, password: &SecretString) -> Result<bool, StartError> {
    let Ok(password) = Password::presented(password.expose_secret()) else {
        return Ok(false);
    };
    let settings = settings.hashing();
    let pool = tokio::task::spawn_blocking(move || HashingPool::new(settings)).await;
    let pool = pool.map_err(StartError::failed)?.map_err(StartError::failed)?;
    let permit = pool.permit(&Client::Own).await.map_err(StartError::failed)?;
    let verdict = pool
        .verify(permit, password, Stored::User(user.password_hash.clone()))
        .await;
    Ok(verdict.map_err(StartError::failed)? != Verdict::Wrong)
}

/// Does the same as [`ensure_first_admin`] with the password from the settings. Ignores it if there
/// already is a superuser.
pub(crate) async fn bootstrap(
    db: &Db,
    settings: &AuthSettings,
    hashing: &HashingPool,
    clock: &Clock,
) -> Result<(), StartError> {
    if !settings.has_bootstrap_password() {
        return Ok(());
    }
    if superuser_exists(db).await? {
        tracing::info!("an administrator already exists, so the bootstrap password is ignored");
        return Ok(());
    }
    let password = settings.bootstrap_password()?;
    let is_temporary = settings.first_admin_must_change_password;
    if make_first(db, hashing, clock, (&password, settings.password_rules()), is_temporary).await? {
        tracing::info!(login = LOGIN, is_temporary, "created the first administrator");
    }
    Ok(())
}

/// Creates a superuser with this login, whatever other superusers there are.
pub(crate) async fn create_admin(
    db: &Db,
    hashing: &HashingPool,
    clock: &Clock,
    (login, email): (Login, Email),
    password: Password,
) -> Result<UserId, Error> {
    let registration = admin(login, email, password);
    let hash = hashing
        .hash(&Client::Own, registration.password.clone(), "password")
        .await?;
    write_tx!(db, |tx| make(
        tx,
        &RequestContext::command_line(),
        &registration,
        &hash,
        false,
        clock
    )
    .await)
}

async fn superuser_exists(db: &Db) -> Result<bool, StartError> {
    let mut conn = db.read().await?;
    Ok(store::users_with_role_exist(&mut conn, ReservedRole::Superuser).await?)
}

/// Creates the user `admin` unless there is a superuser. Returns whether it did. If several callers
/// do so at once, only one creates the user.
async fn make_first(
    db: &Db,
    hashing: &HashingPool,
    clock: &Clock,
    (password, rules): (&SecretString, PasswordRules),
    is_temporary: bool,
) -> Result<bool, StartError> {
    let failed = |why: &dyn std::fmt::Display| {
        StartError::Failed(format!(
            "cannot create the first administrator, with the login {LOGIN}: {why}"
        ))
    };
    let login: Login = LOGIN.parse().map_err(|error| failed(&error))?;
    let email: Email = EMAIL.parse().map_err(|error| failed(&error))?;
    let password = Password::chosen(password.expose_secret(), rules)
        .map_err(|error| StartError::Setting(format!("the password of the first administrator {error}")))?;
    if password.is_login_or_email(Some(&login), Some(&email)) {
        return Err(StartError::setting(
            "the password of the first administrator must not be the login",
        ));
    }
    let registration = admin(login, email, password);
    let hash = hashing
        .hash(&Client::Own, registration.password.clone(), "password")
        .await;
    let hash = hash.map_err(|error| match error {
        // All other fields were checked above.
        Error::Fields(_) => StartError::setting(
            "the password of the first administrator must not be one that is known from a data breach",
        ),
        error => failed(&error),
    })?;
    let made: Result<bool, Error> = write_tx!(db, |tx| {
        store::role_lock(tx, ReservedRole::Superuser).await?;
        if store::users_with_role_exist(tx, ReservedRole::Superuser).await? {
            return Ok(false);
        }
        make(tx, &RequestContext::itself(), &registration, &hash, is_temporary, clock).await?;
        Ok(true)
    });
    made.map_err(|error| match error {
        Error::UserAlreadyExists(_) => {
            failed(&"another user has the login or the address; use `auth-service create-admin`")
        }
        Error::Database(error) if error.is_outage() => error.into(),
        error => failed(&error),
    })
}

fn admin(login: Login, email: Email, password: Password) -> Registration {
    let person = NewPerson {
        email,
        login,
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        middle_name: PersonName::default(),
        locale: Locale::default(),
    };
    Registration { person, password }
}

async fn make(
    tx: &mut Conn,
    context: &RequestContext,
    registration: &Registration,
    hash: &SecretString,
    is_temporary: bool,
    clock: &Clock,
) -> Result<UserId, Error> {
    let now = clock.now();
    let password = NewPassword {
        hash,
        is_temporary,
        min_expire_time: Some(NEVER),
    };
    let user = user_create(tx, &registration.person, password, now).await?;
    // The operator vouches for the address, so that nobody has to verify it before the first login.
    store::user_record_email_proof(tx, user.id, now).await?;
    for role in [ReservedRole::Superuser, ReservedRole::Admin, ReservedRole::Player] {
        store::user_role_insert(tx, user.id, role).await?;
    }
    AuditEvent::new("user.create")
        .user(user.id)
        .detail("roles", "admin, player, superuser")
        .record(tx, context, now)
        .await?;
    Ok(user.id)
}
