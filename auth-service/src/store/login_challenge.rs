//! Queries on `login_challenges`. Callers that write have locked the user's row.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::{columns::columns, schema::login_challenges};
use crate::{
    ids::{ChallengeId, DeviceId},
    model::LoginChallenge,
};

columns!(insertable LoginChallenge in login_challenges {
    id: ChallengeId,
    user_id: UserId,
    token_version: i64,
    is_enrolment: bool,
    needs_email_code: bool,
    audience: String,
    device_id: Option<DeviceId>,
    new_password_hash: Option<String>,
    create_time: Timestamp,
    expire_time: Timestamp,
});

pub(crate) async fn login_challenge_insert(conn: &mut Conn, challenge: &LoginChallenge) -> db::Result<()> {
    let insert = diesel::insert_into(login_challenges::table).values(challenge);
    query!(conn, |c| insert.execute(c).await).map(|_| ())
}

pub(crate) async fn login_challenge(conn: &mut Conn, id: ChallengeId) -> db::Result<Option<LoginChallenge>> {
    query!(conn, |c| login_challenges::table
        .find(id)
        .select(LoginChallenge::as_select())
        .first(c)
        .await
        .optional())
}

/// Returns the ids of the user's challenges, the newest first.
pub(crate) async fn login_challenges_of(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<ChallengeId>> {
    query!(conn, |c| login_challenges::table
        .filter(login_challenges::user_id.eq(user_id))
        .order((login_challenges::create_time.desc(), login_challenges::id.desc()))
        .select(login_challenges::id)
        .load(c)
        .await)
}

/// Records that the mailed code was entered.
pub(crate) async fn login_challenge_email_proven(conn: &mut Conn, id: ChallengeId) -> db::Result<()> {
    let update = diesel::update(login_challenges::table.find(id)).set(login_challenges::needs_email_code.eq(false));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn login_challenge_delete(conn: &mut Conn, id: ChallengeId) -> db::Result<()> {
    let delete = diesel::delete(login_challenges::table.find(id));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

pub(crate) async fn login_challenges_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(login_challenges::table.filter(login_challenges::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Deletes at most `limit` challenges that had expired before this time. Returns their number.
pub(crate) async fn login_challenges_delete_expired(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> db::Result<usize> {
    let expired: Vec<ChallengeId> = query!(conn, |c| login_challenges::table
        .filter(login_challenges::expire_time.lt(before))
        .order(login_challenges::expire_time)
        .limit(limit)
        .select(login_challenges::id)
        .load(c)
        .await)?;
    let delete = diesel::delete(login_challenges::table.filter(login_challenges::id.eq_any(&expired)));
    query!(conn, |c| delete.execute(c).await)
}
