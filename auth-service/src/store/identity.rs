//! Queries on `user_identities` and `used_nonces`.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{used_nonces, user_identities},
};
use crate::{ids::IdentityId, model::UserIdentity};

columns!(insertable UserIdentity in user_identities {
    id: IdentityId,
    user_id: UserId,
    issuer: String,
    subject: String,
    provider: String,
    create_time: Timestamp,
    last_use_time: Option<Timestamp>,
});

/// Stores an identity. Returns false, and stores nothing, if a user has it already.
pub(crate) async fn identity_insert(conn: &mut Conn, identity: &UserIdentity) -> db::Result<bool> {
    let insert = diesel::insert_into(user_identities::table)
        .values(identity)
        .on_conflict_do_nothing();
    query!(conn, |c| insert.execute(c).await).map(|rows| rows == 1)
}

/// Returns the identity with this issuer and this subject.
pub(crate) async fn identity_by_subject(
    conn: &mut Conn,
    issuer: &str,
    subject: &str,
) -> db::Result<Option<UserIdentity>> {
    query!(conn, |c| user_identities::table
        .filter(user_identities::issuer.eq(issuer))
        .filter(user_identities::subject.eq(subject))
        .select(UserIdentity::as_select())
        .first(c)
        .await
        .optional())
}

/// Returns the identities of the user, the oldest first.
pub(crate) async fn identities_of_user(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<UserIdentity>> {
    query!(conn, |c| user_identities::table
        .filter(user_identities::user_id.eq(user_id))
        .order((user_identities::create_time, user_identities::id))
        .select(UserIdentity::as_select())
        .load(c)
        .await)
}

/// Records a login with the identity.
pub(crate) async fn identity_record_use(conn: &mut Conn, id: IdentityId, now: Timestamp) -> db::Result<()> {
    let update = diesel::update(user_identities::table.find(id)).set(user_identities::last_use_time.eq(now));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

pub(crate) async fn identity_delete(conn: &mut Conn, id: IdentityId) -> db::Result<()> {
    let delete = diesel::delete(user_identities::table.find(id));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Deletes all identities of the user. Returns their number.
pub(crate) async fn identities_delete(conn: &mut Conn, user_id: UserId) -> db::Result<usize> {
    let delete = diesel::delete(user_identities::table.filter(user_identities::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await)
}

/// Deletes the identities that the user has had since `time`. Returns their number.
pub(crate) async fn identities_delete_since(conn: &mut Conn, user_id: UserId, time: Timestamp) -> db::Result<usize> {
    let since = user_identities::table
        .filter(user_identities::user_id.eq(user_id))
        .filter(user_identities::create_time.ge(time));
    query!(conn, |c| diesel::delete(since).execute(c).await)
}

/// Records that a nonce was used. Returns false if it was used before. A transaction that uses the
/// same nonce waits until the other one has ended.
pub(crate) async fn nonce_use(conn: &mut Conn, digest: &[u8], expire_time: Timestamp) -> db::Result<bool> {
    let insert = diesel::insert_into(used_nonces::table)
        .values((used_nonces::digest.eq(digest), used_nonces::expire_time.eq(expire_time)))
        .on_conflict_do_nothing();
    query!(conn, |c| insert.execute(c).await).map(|rows| rows == 1)
}

/// Deletes at most `limit` nonces that had expired by `time`, the oldest first. Returns their
/// number.
pub(crate) async fn nonces_delete_before(conn: &mut Conn, time: Timestamp, limit: i64) -> db::Result<usize> {
    let expired: Vec<Vec<u8>> = query!(conn, |c| used_nonces::table
        .filter(used_nonces::expire_time.le(time))
        .order(used_nonces::expire_time)
        .limit(limit)
        .select(used_nonces::digest)
        .load(c)
        .await)?;
    let delete = diesel::delete(used_nonces::table.filter(used_nonces::digest.eq_any(&expired)));
    query!(conn, |c| delete.execute(c).await)
}
