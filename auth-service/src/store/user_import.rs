//! Queries for users who are imported from another system: on `user_imports` and
//! `imported_passwords`, and on many rows of `users` at a time.

use base::{clock::Timestamp, ids::UserId};
use db::{insert_rows, prelude::*};
use diesel::dsl::count_star;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{
    columns::columns,
    schema::{email_undos, imported_passwords, user_imports, user_roles, users},
};
use crate::{ids::RoleId, model::ImportProgress};

/// Beginning of the password hashes that this program makes. Imported hashes begin otherwise.
const OWN_HASH: &str = "$argon2id$%";

columns!(insertable ImportProgress in user_imports {
    file_digest: Vec<u8>,
    lines: i64,
    done_lines: i64,
    users: i64,
    start_time: Timestamp,
    update_time: Timestamp,
});

/// A user to insert. Columns that are not named keep their defaults.
#[derive(Clone, Insertable)]
#[diesel(table_name = users, treat_none_as_default_value = false)]
pub(crate) struct ImportedUserRow {
    pub(crate) id: UserId,
    pub(crate) login: String,
    pub(crate) login_folded: String,
    pub(crate) email: String,
    pub(crate) email_folded: String,
    pub(crate) password_hash: String,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) middle_name: String,
    pub(crate) is_active: bool,
    pub(crate) token_version: i64,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) search_folded: String,
    pub(crate) key_time: Option<Timestamp>,
    pub(crate) locale: String,
    pub(crate) email_verify_time: Option<Timestamp>,
    pub(crate) import_time: Option<Timestamp>,
}

/// A role of a user to insert.
#[derive(Clone, Copy, Debug, Insertable)]
#[diesel(table_name = user_roles)]
pub(crate) struct UserRoleRow {
    pub(crate) user_id: UserId,
    pub(crate) role_id: RoleId,
}

/// The scheme of an imported password hash, with its parameters.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = imported_passwords)]
pub(crate) struct ImportedPasswordRow {
    pub(crate) user_id: UserId,
    pub(crate) scheme: String,
}

pub(crate) async fn imported_users_insert(conn: &mut Conn, rows: &[ImportedUserRow]) -> db::Result<()> {
    insert_rows!(conn, users::table, rows)
}

pub(crate) async fn user_roles_insert(conn: &mut Conn, rows: &[UserRoleRow]) -> db::Result<()> {
    insert_rows!(conn, user_roles::table, rows)
}

pub(crate) async fn imported_passwords_insert(conn: &mut Conn, rows: &[ImportedPasswordRow]) -> db::Result<()> {
    insert_rows!(conn, imported_passwords::table, rows)
}

/// Forgets that the user's password hash was imported, because there is another one now.
pub(crate) async fn imported_password_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(imported_passwords::table.find(user_id));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Replaces the user's imported password hash by this one, which no password matches.
pub(crate) async fn imported_password_replace(conn: &mut Conn, user_id: UserId, hash: &SecretString) -> db::Result<()> {
    let update = diesel::update(users::table.find(user_id)).set(users::password_hash.eq(hash.expose_secret()));
    query!(conn, |c| update.execute(c).await)?;
    imported_password_delete(conn, user_id).await
}

/// Counts the imported password hashes of each scheme, in the order of their texts.
pub(crate) async fn imported_password_counts(conn: &mut Conn) -> db::Result<Vec<(String, i64)>> {
    query!(conn, |c| imported_passwords::table
        .inner_join(users::table)
        .filter(users::password_hash.not_like(OWN_HASH))
        .group_by(imported_passwords::scheme)
        .order(imported_passwords::scheme)
        .select((imported_passwords::scheme, count_star()))
        .load(c)
        .await)
}

/// Counts those whose users were imported before `since` and have not logged in from then on. Users
/// without an import time do not count: they may have been imported lately.
pub(crate) async fn imported_password_counts_unused(
    conn: &mut Conn,
    since: Timestamp,
) -> db::Result<Vec<(String, i64)>> {
    query!(conn, |c| imported_passwords::table
        .inner_join(users::table)
        .filter(users::password_hash.not_like(OWN_HASH))
        .filter(users::import_time.lt(since))
        .filter(users::last_login_time.is_null().or(users::last_login_time.lt(since)))
        .group_by(imported_passwords::scheme)
        .select((imported_passwords::scheme, count_star()))
        .load(c)
        .await)
}

/// Returns such users in the order of their ids, above `after`, and at most `limit`.
pub(crate) async fn imported_passwords_unused(
    conn: &mut Conn,
    since: Timestamp,
    after: Option<UserId>,
    limit: i64,
) -> db::Result<Vec<UserId>> {
    // No user has this id.
    let after = after.unwrap_or(UserId::from_uuid(Uuid::nil()));
    query!(conn, |c| imported_passwords::table
        .inner_join(users::table)
        .filter(imported_passwords::user_id.gt(after))
        .filter(users::password_hash.not_like(OWN_HASH))
        .filter(users::import_time.lt(since))
        .filter(users::last_login_time.is_null().or(users::last_login_time.lt(since)))
        .order(imported_passwords::user_id)
        .select(imported_passwords::user_id)
        .limit(limit)
        .load(c)
        .await)
}

/// Returns the next scheme of imported password hashes after this one, in the order of their texts.
/// A user whose password was replaced by an older version of this program no longer counts.
pub(crate) async fn imported_scheme_after(conn: &mut Conn, after: &str) -> db::Result<Option<String>> {
    query!(conn, |c| imported_passwords::table
        .inner_join(users::table)
        .filter(imported_passwords::scheme.gt(after))
        .filter(users::password_hash.not_like(OWN_HASH))
        .order(imported_passwords::scheme)
        .select(imported_passwords::scheme)
        .limit(1)
        .first(c)
        .await
        .optional())
}

/// Returns those of these folded logins that users have.
pub(crate) async fn logins_taken(conn: &mut Conn, folded: &[&str]) -> db::Result<Vec<String>> {
    query!(conn, |c| users::table
        .filter(users::login_folded.eq_any(folded.iter().copied()))
        .select(users::login_folded)
        .load(c)
        .await)
}

/// Returns those of these keys of addresses that users have, or can still get back.
pub(crate) async fn emails_taken(conn: &mut Conn, keys: &[&str]) -> db::Result<Vec<String>> {
    let mut taken: Vec<String> = query!(conn, |c| users::table
        .filter(users::email_folded.eq_any(keys.iter().copied()))
        .select(users::email_folded)
        .load(c)
        .await)?;
    // Read last: a user who has just changed the address has it as a former one now.
    let former: Vec<String> = query!(conn, |c| email_undos::table
        .filter(email_undos::email_folded.eq_any(keys.iter().copied()))
        .select(email_undos::email_folded)
        .load(c)
        .await)?;
    taken.extend(former);
    Ok(taken)
}

/// Returns how far the import of the file with this digest has come, if it was begun.
pub(crate) async fn user_import(conn: &mut Conn, file_digest: &[u8]) -> db::Result<Option<ImportProgress>> {
    query!(conn, |c| user_imports::table
        .find(file_digest)
        .select(ImportProgress::as_select())
        .first(c)
        .await
        .optional())
}

/// Inserts the progress of an import, unless another process has just done so. Returns whether it
/// was inserted.
pub(crate) async fn user_import_insert(conn: &mut Conn, progress: &ImportProgress) -> db::Result<bool> {
    let insert = diesel::insert_into(user_imports::table)
        .values(progress)
        .on_conflict_do_nothing();
    query!(conn, |c| insert.execute(c).await).map(|rows| rows == 1)
}

/// Stores the progress of an import, unless another process has changed it since `before` was
/// stored. Returns whether it was stored.
pub(crate) async fn user_import_advance(
    conn: &mut Conn,
    before: &ImportProgress,
    after: &ImportProgress,
) -> db::Result<bool> {
    let unchanged = user_imports::table
        .find(&before.file_digest)
        .filter(user_imports::done_lines.eq(before.done_lines));
    let update = diesel::update(unchanged).set((
        user_imports::done_lines.eq(after.done_lines),
        user_imports::users.eq(after.users),
        user_imports::update_time.eq(after.update_time),
    ));
    query!(conn, |c| update.execute(c).await).map(|rows| rows == 1)
}
