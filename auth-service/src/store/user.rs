//! Queries on `users`.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};

use super::{columns::columns, schema::users};
use crate::model::User;

columns!(User in users {
    id: UserId,
    login: String,
    email: String,
    password_hash: String,
    first_name: String,
    last_name: String,
    middle_name: String,
    is_active: bool,
    token_version: i64,
    create_time: Timestamp,
    update_time: Timestamp,
    last_login_time: Option<Timestamp>,
    must_change_password: bool,
    is_service: bool,
    force_logout_time: Option<Timestamp>,
    delete_time: Option<Timestamp>,
    email_is_taken: bool,
    key_time: Option<Timestamp>,
    locale: String,
    email_verify_time: Option<Timestamp>,
    email_set_time: Option<Timestamp>,
    invite_time: Option<Timestamp>,
    min_password_expire_time: Option<Timestamp>,
    is_guest: bool,
    has_second_factor: bool,
});

/// A user to insert.
#[derive(Debug)]
pub(crate) struct NewUser<'a> {
    pub(crate) id: UserId,
    pub(crate) login: &'a str,
    pub(crate) login_folded: &'a str,
    pub(crate) email: &'a str,
    pub(crate) email_folded: &'a str,
    /// Whether another user has the key of the address.
    pub(crate) email_is_taken: bool,
    pub(crate) password_hash: &'a SecretString,
    pub(crate) first_name: &'a str,
    pub(crate) last_name: &'a str,
    pub(crate) middle_name: &'a str,
    /// Text in which searches find the user.
    pub(crate) search_folded: &'a str,
    pub(crate) must_change_password: bool,
    pub(crate) min_password_expire_time: Option<Timestamp>,
    /// Language of mails to the user, a BCP 47 tag, or empty.
    pub(crate) locale: &'a str,
    pub(crate) is_guest: bool,
    pub(crate) create_time: Timestamp,
}

pub(crate) async fn user_insert(conn: &mut Conn, new: &NewUser<'_>) -> db::Result<User> {
    let values = (
        users::id.eq(new.id),
        users::login.eq(new.login),
        users::login_folded.eq(new.login_folded),
        users::email.eq(new.email),
        users::email_folded.eq(new.email_folded),
        users::email_is_taken.eq(new.email_is_taken),
        users::password_hash.eq(new.password_hash.expose_secret()),
        users::first_name.eq(new.first_name),
        users::last_name.eq(new.last_name),
        users::middle_name.eq(new.middle_name),
        users::is_active.eq(true),
        users::token_version.eq(1),
        users::create_time.eq(new.create_time),
        users::update_time.eq(new.create_time),
        users::search_folded.eq(new.search_folded),
        users::key_time.eq(new.create_time),
        users::must_change_password.eq(new.must_change_password),
        users::min_password_expire_time.eq(new.min_password_expire_time),
        users::locale.eq(new.locale),
        users::is_guest.eq(new.is_guest),
    );
    query!(conn, |c| diesel::insert_into(users::table)
        .values(values)
        .returning(User::as_returning())
        .get_result(c)
        .await)
}

pub(crate) async fn user_by_id(conn: &mut Conn, id: UserId) -> db::Result<Option<User>> {
    query!(conn, |c| users::table
        .find(id)
        .select(User::as_select())
        .first(c)
        .await
        .optional())
}

pub(crate) async fn user_by_login(conn: &mut Conn, folded: &str) -> db::Result<Option<User>> {
    query!(conn, |c| {
        users::table
            .filter(users::login_folded.eq(folded))
            .select(User::as_select())
            .first(c)
            .await
            .optional()
    })
}

/// Returns the logins of these users, except deleted ones.
pub(crate) async fn user_logins(conn: &mut Conn, ids: Vec<UserId>) -> db::Result<Vec<(UserId, String)>> {
    query!(conn, |c| users::table
        .filter(users::id.eq_any(&ids))
        .filter(users::delete_time.is_null())
        .select((users::id, users::login))
        .load(c)
        .await)
}

pub(crate) async fn user_by_email(conn: &mut Conn, folded: &str) -> db::Result<Option<User>> {
    query!(conn, |c| {
        users::table
            .filter(users::email_folded.eq(folded))
            .select(User::as_select())
            .first(c)
            .await
            .optional()
    })
}

/// Reads the user and locks the row. Transactions that begin, rotate or end sessions of a user do
/// this first, so that they run one after the other. The exception is a rotation that needs no
/// transaction; see `Sessions::rotate_current`.
pub(crate) async fn user_lock(conn: &mut Conn, id: UserId) -> db::Result<Option<User>> {
    lock_row!(conn, users::table.find(id).select(User::as_select()))
}

/// Records a login of the user, and locks the row against transactions that [lock](user_lock) it.
/// Returns `None` if the user is not active, or if the password has changed since it was verified.
pub(crate) async fn user_record_login(conn: &mut Conn, verified: &User, now: Timestamp) -> db::Result<Option<User>> {
    // A new password raises the version, but a new hash of the same password does not.
    let is_same_hash = users::password_hash.eq(verified.password_hash.expose_secret());
    let is_same_version = users::token_version.eq(verified.token_version);
    let unchanged = users::table
        .find(verified.id)
        .filter(users::is_active.eq(true))
        .filter(is_same_hash.or(is_same_version));
    let update = diesel::update(unchanged).set(users::last_login_time.eq(now));
    query!(conn, |c| update
        .returning(User::as_returning())
        .cached()
        .get_result(c)
        .await
        .optional())
}

/// Stores a new hash of the same password, with the current scheme and parameters. Tokens are not
/// affected.
pub(crate) async fn user_password_rehash(conn: &mut Conn, id: UserId, hash: &SecretString) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set(users::password_hash.eq(hash.expose_secret()));
    query!(conn, |c| update.cached().execute(c).await)?;
    super::imported_password_delete(conn, id).await
}

/// Sets the token version.
pub(crate) async fn user_set_token_version(conn: &mut Conn, id: UserId, version: i64) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set(users::token_version.eq(version));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Raises the token version by one, and returns it.
pub(crate) async fn user_raise_token_version(conn: &mut Conn, id: UserId) -> db::Result<i64> {
    let update = diesel::update(users::table.find(id)).set(users::token_version.eq(users::token_version + 1));
    query!(conn, |c| update
        .returning(users::token_version)
        .cached()
        .get_result(c)
        .await)
}

pub(crate) async fn user_set_force_logout_time(conn: &mut Conn, id: UserId, now: Timestamp) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set(users::force_logout_time.eq(now));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Does the same, unless the user has a temporary password. Its age counts from this time, and
/// nobody has been logged in with it.
pub(crate) async fn user_set_force_logout_time_unless_temporary(
    conn: &mut Conn,
    id: UserId,
    now: Timestamp,
) -> db::Result<()> {
    let user = users::table.find(id).filter(users::must_change_password.eq(false));
    let update = diesel::update(user).set(users::force_logout_time.eq(now));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Records that the user has just been invited to choose a password.
pub(crate) async fn user_set_invite_time(conn: &mut Conn, id: UserId, now: Timestamp) -> db::Result<User> {
    let update = diesel::update(users::table.find(id)).set(users::invite_time.eq(now));
    query!(conn, |c| update
        .returning(User::as_returning())
        .cached()
        .get_result(c)
        .await)
}

/// Makes the user anonymous forever. The login and the address become free for others. The row
/// remains, so that the id is never used again.
pub(crate) async fn user_anonymize(conn: &mut Conn, id: UserId, now: Timestamp) -> db::Result<()> {
    // Neither a login nor the key of an address contains a colon.
    let folded = format!("deleted:{id}");
    let update = diesel::update(users::table.find(id)).set((
        users::login.eq(""),
        users::login_folded.eq(&folded),
        users::email.eq(""),
        users::email_folded.eq(&folded),
        users::password_hash.eq(""),
        users::first_name.eq(""),
        users::last_name.eq(""),
        users::middle_name.eq(""),
        users::search_folded.eq(""),
        users::is_active.eq(false),
        users::must_change_password.eq(false),
        users::update_time.eq(now),
        users::delete_time.eq(now),
        users::email_is_taken.eq(false),
        users::key_time.eq(now),
        users::locale.eq(""),
        users::email_verify_time.eq(None::<Timestamp>),
        users::email_set_time.eq(None::<Timestamp>),
        users::invite_time.eq(None::<Timestamp>),
        users::min_password_expire_time.eq(None::<Timestamp>),
        users::is_guest.eq(false),
        users::has_second_factor.eq(false),
    ));
    query!(conn, |c| update.cached().execute(c).await)?;
    user_belongings_delete(conn, id).await?;
    super::user_holdings_delete(conn, id).await
}

/// Deletes what other tables hold for a deleted user that only people have.
pub(super) async fn user_belongings_delete(conn: &mut Conn, id: UserId) -> db::Result<()> {
    super::guest_credential_delete(conn, id).await?;
    super::imported_password_delete(conn, id).await?;
    super::totp_factors_delete(conn, id).await?;
    super::recovery_codes_delete(conn, id).await?;
    super::login_challenges_delete(conn, id).await?;
    super::account_codes_delete(conn, id).await?;
    super::email_undos_delete(conn, id).await?;
    super::email_reminder_delete(conn, id).await?;
    super::mails_delete_of(conn, id).await
}
