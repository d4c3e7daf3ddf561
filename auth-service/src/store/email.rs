//! Queries on `email_undos`, `email_requirement` and `email_reminders`, and on the addresses in
//! `users`.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{email_reminders, email_requirement, email_undos, users},
};
use crate::{
    ids::EmailUndoId,
    model::{EmailUndo, User},
};

/// Id of the only row of `email_requirement`.
const ONLY: i16 = 1;

/// Address of a user, and what is computed from it.
#[derive(Debug)]
pub(crate) struct NewEmail {
    /// Address, as it was entered.
    pub(crate) email: String,
    /// Key of the address.
    pub(crate) email_folded: String,
    /// Text in which searches find the user.
    pub(crate) search_folded: String,
}

/// Sets another address of the user, who has just proved that they receive mail there.
pub(crate) async fn user_set_email(conn: &mut Conn, id: UserId, new: &NewEmail, now: Timestamp) -> db::Result<User> {
    let update = diesel::update(users::table.find(id)).set((
        users::email.eq(&new.email),
        users::email_folded.eq(&new.email_folded),
        users::email_is_taken.eq(false),
        users::search_folded.eq(&new.search_folded),
        users::email_verify_time.eq(now),
        users::update_time.eq(now),
        users::key_time.eq(now),
    ));
    query!(conn, |c| update.returning(User::as_returning()).get_result(c).await)
}

/// Records that the user has just proved that they receive mail at their present address.
pub(crate) async fn user_verify_email(
    conn: &mut Conn,
    id: UserId,
    present: &NewEmail,
    now: Timestamp,
) -> db::Result<User> {
    let update = diesel::update(users::table.find(id)).set((
        users::email_folded.eq(&present.email_folded),
        users::email_is_taken.eq(false),
        users::search_folded.eq(&present.search_folded),
        users::email_verify_time.eq(now),
        users::key_time.eq(users::update_time.nullable()),
    ));
    query!(conn, |c| update.returning(User::as_returning()).get_result(c).await)
}

/// Records that the user, who has the key of their address, has just proved that they receive mail
/// there.
pub(crate) async fn user_record_email_proof(conn: &mut Conn, id: UserId, now: Timestamp) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set(users::email_verify_time.eq(now));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Takes the address from the user, because another one has verified it.
pub(crate) async fn user_give_up_email(conn: &mut Conn, id: UserId) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set((
        users::email_folded.eq(taken_key(id)),
        users::email_is_taken.eq(true),
        users::key_time.eq(users::update_time.nullable()),
    ));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

/// Returns what stands in place of the key of an address that another user has. The key of an
/// address does not contain a colon.
pub(crate) fn taken_key(id: UserId) -> String {
    format!("taken:{id}")
}

columns!(insertable EmailUndo in email_undos {
    id: EmailUndoId,
    user_id: UserId,
    email: String,
    email_folded: String,
    seed: Vec<u8>,
    create_time: Timestamp,
    expire_time: Timestamp,
});

pub(crate) async fn email_undo_insert(conn: &mut Conn, undo: &EmailUndo) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(email_undos::table)
        .values(undo)
        .execute(c)
        .await)
    .map(|_| ())
}

/// Returns the former addresses of the user, the newest first.
pub(crate) async fn email_undos(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<EmailUndo>> {
    query!(conn, |c| email_undos::table
        .filter(email_undos::user_id.eq(user_id))
        .order((email_undos::create_time.desc(), email_undos::id.desc()))
        .select(EmailUndo::as_select())
        .load(c)
        .await)
}

/// Returns whether another user than `owner` can still get the address with this key back.
pub(crate) async fn email_undo_is_of_another(
    conn: &mut Conn,
    email_folded: &str,
    owner: Option<UserId>,
) -> db::Result<bool> {
    let owners: Vec<UserId> = query!(conn, |c| email_undos::table
        .filter(email_undos::email_folded.eq(email_folded))
        .select(email_undos::user_id)
        .load(c)
        .await)?;
    Ok(owners.into_iter().any(|found| owner != Some(found)))
}

/// Deletes all former addresses of the user.
pub(crate) async fn email_undos_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(email_undos::table.filter(email_undos::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Deletes the former addresses that the user has had since `time`.
pub(crate) async fn email_undos_delete_since(conn: &mut Conn, user_id: UserId, time: Timestamp) -> db::Result<()> {
    let since = email_undos::table
        .filter(email_undos::user_id.eq(user_id))
        .filter(email_undos::create_time.ge(time));
    query!(conn, |c| diesel::delete(since).execute(c).await).map(|_| ())
}

/// Deletes at most `limit` former addresses that had expired by `now`. Returns their number.
pub(crate) async fn email_undos_delete_before(conn: &mut Conn, now: Timestamp, limit: i64) -> db::Result<usize> {
    let expired: Vec<EmailUndoId> = query!(conn, |c| email_undos::table
        .filter(email_undos::expire_time.le(now))
        .order(email_undos::expire_time)
        .limit(limit)
        .select(email_undos::id)
        .load(c)
        .await)?;
    let delete = diesel::delete(email_undos::table.filter(email_undos::id.eq_any(&expired)));
    query!(conn, |c| delete.execute(c).await)
}

/// Returns the time since when users must verify their address before they log in, and the time
/// when a replica was started without this rule.
pub(crate) async fn email_requirement(conn: &mut Conn) -> db::Result<Option<(Timestamp, Option<Timestamp>)>> {
    query!(conn, |c| email_requirement::table
        .find(ONLY)
        .select((email_requirement::start_time, email_requirement::off_time))
        .first(c)
        .await
        .optional())
}

/// Stores the time since when users must verify their address.
pub(crate) async fn email_requirement_set(conn: &mut Conn, start: Timestamp) -> db::Result<()> {
    let set = diesel::insert_into(email_requirement::table)
        .values((email_requirement::id.eq(ONLY), email_requirement::start_time.eq(start)))
        .on_conflict(email_requirement::id)
        .do_update()
        .set((
            email_requirement::start_time.eq(excluded(email_requirement::start_time)),
            email_requirement::off_time.eq(None::<Timestamp>),
        ));
    query!(conn, |c| set.execute(c).await).map(|_| ())
}

/// Records that a replica was started without the rule, unless that is recorded already.
pub(crate) async fn email_requirement_turn_off(conn: &mut Conn, now: Timestamp) -> db::Result<()> {
    let on = email_requirement::table.filter(email_requirement::off_time.is_null());
    let update = diesel::update(on).set(email_requirement::off_time.eq(now));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

/// Returns the time when the user was last reminded to verify their address.
pub(crate) async fn email_reminder(conn: &mut Conn, user_id: UserId) -> db::Result<Option<Timestamp>> {
    query!(conn, |c| email_reminders::table
        .find(user_id)
        .select(email_reminders::remind_time)
        .first(c)
        .await
        .optional())
}

/// Records that the user has been reminded.
pub(crate) async fn email_reminder_set(conn: &mut Conn, user_id: UserId, now: Timestamp) -> db::Result<()> {
    let set = diesel::insert_into(email_reminders::table)
        .values((
            email_reminders::user_id.eq(user_id),
            email_reminders::remind_time.eq(now),
        ))
        .on_conflict(email_reminders::user_id)
        .do_update()
        .set(email_reminders::remind_time.eq(excluded(email_reminders::remind_time)));
    query!(conn, |c| set.execute(c).await).map(|_| ())
}

/// Forgets when the user was last reminded.
pub(crate) async fn email_reminder_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    query!(conn, |c| diesel::delete(email_reminders::table.find(user_id))
        .execute(c)
        .await)
    .map(|_| ())
}
