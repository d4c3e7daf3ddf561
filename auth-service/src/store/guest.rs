//! Queries on `guest_credentials`.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;
use diesel::dsl::max;

use super::{
    columns::columns,
    schema::{guest_credentials, sessions},
};
use crate::model::GuestCredential;

columns!(insertable GuestCredential in guest_credentials {
    user_id: UserId,
    mac: Vec<u8>,
    create_time: Timestamp,
    use_time: Timestamp,
    sweep_time: Timestamp,
});

pub(crate) async fn guest_credential_insert(conn: &mut Conn, credential: &GuestCredential) -> db::Result<()> {
    let insert = diesel::insert_into(guest_credentials::table).values(credential);
    query!(conn, |c| insert.execute(c).await).map(|_| ())
}

pub(crate) async fn guest_credential(conn: &mut Conn, user_id: UserId) -> db::Result<Option<GuestCredential>> {
    query!(conn, |c| guest_credentials::table
        .find(user_id)
        .select(GuestCredential::as_select())
        .first(c)
        .await
        .optional())
}

/// Replaces the HMAC by one of the same credential with the current key.
pub(crate) async fn guest_credential_renew(conn: &mut Conn, user_id: UserId, mac: &[u8]) -> db::Result<()> {
    let update = diesel::update(guest_credentials::table.find(user_id)).set(guest_credentials::mac.eq(mac));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn guest_credential_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(guest_credentials::table.find(user_id));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Returns at most `limit` guests whose check became due at `from` or later, and by now, each with
/// the time at which it became due: those that are due longest first.
pub(crate) async fn guests_due(
    conn: &mut Conn,
    from: Timestamp,
    now: Timestamp,
    limit: i64,
) -> db::Result<Vec<(UserId, Timestamp)>> {
    query!(conn, |c| guest_credentials::table
        .filter(guest_credentials::sweep_time.ge(from))
        .filter(guest_credentials::sweep_time.le(now))
        .order(guest_credentials::sweep_time)
        .select((guest_credentials::user_id, guest_credentials::sweep_time))
        .limit(limit)
        .load(c)
        .await)
}

/// Records the last use of the guest's account that is known, and the time of the next check.
pub(crate) async fn guest_postpone(
    conn: &mut Conn,
    user_id: UserId,
    use_time: Timestamp,
    sweep_time: Timestamp,
) -> db::Result<()> {
    let update = diesel::update(guest_credentials::table.find(user_id)).set((
        guest_credentials::use_time.eq(use_time),
        guest_credentials::sweep_time.eq(sweep_time),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Returns the time when a session of the user was last used, among those that are still stored.
pub(crate) async fn sessions_last_use_time(conn: &mut Conn, user_id: UserId) -> db::Result<Option<Timestamp>> {
    query!(conn, |c| sessions::table
        .filter(sessions::user_id.eq(user_id))
        .select(max(sessions::last_use_time))
        .get_result(c)
        .await)
}
