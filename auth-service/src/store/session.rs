//! `sessions`.

use shared::db::prelude::*;
use shared::{
    clock::Timestamp,
    db,
    ids::{SessionId, UserId},
};

use super::schema::sessions;

/// A session: one device on which a user is logged in.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user_id: UserId,
    pub(crate) counter: i64,
    pub(crate) is_used: bool,
    pub(crate) rotation_request: Option<Vec<u8>>,
    pub(crate) rotate_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    pub(crate) absolute_expire_time: Timestamp,
    pub(crate) end_time: Option<Timestamp>,
}

/// A session to be. Its first refresh token has the counter 1.
#[derive(Debug, Insertable)]
#[diesel(table_name = sessions)]
pub(crate) struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) user_id: UserId,
    pub(crate) counter: i64,
    pub(crate) is_used: bool,
    pub(crate) create_time: Timestamp,
    pub(crate) rotate_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    pub(crate) absolute_expire_time: Timestamp,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SessionEnd {
    /// The user logged out.
    Logout,
    /// An old refresh token came back.
    RefreshTokenReused,
}

impl SessionEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::RefreshTokenReused => "refresh_token_reused",
        }
    }
}

pub(crate) async fn session_insert(conn: &mut Conn, new: &NewSession) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(sessions::table)
        .values(new)
        .execute(c)
        .await)
    .map(|_| ())
}

pub(crate) async fn session_by_id(conn: &mut Conn, id: SessionId) -> db::Result<Option<Session>> {
    query!(conn, |c| sessions::table
        .find(id)
        .select(Session::as_select())
        .first(c)
        .await
        .optional())
}

/// Replaces the refresh token of `session.counter` by its successor. False where the session has moved on since it was
/// read.
pub(crate) async fn session_rotate(
    conn: &mut Conn,
    session: &Session,
    request: Option<&[u8]>,
    now: Timestamp,
    expire_time: Timestamp,
) -> db::Result<bool> {
    let current = sessions::table
        .find(session.id)
        .filter(sessions::counter.eq(session.counter))
        .filter(sessions::end_time.is_null());
    let update = diesel::update(current).set((
        sessions::counter.eq(session.counter + 1),
        sessions::is_used.eq(false),
        sessions::rotation_request.eq(request),
        sessions::rotate_time.eq(now),
        sessions::expire_time.eq(expire_time),
    ));
    query!(conn, |c| update.execute(c).await).map(|rows| rows == 1)
}

pub(crate) async fn session_mark_used(conn: &mut Conn, id: SessionId) -> db::Result<()> {
    let update = diesel::update(sessions::table.find(id)).set(sessions::is_used.eq(true));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

/// Ends a session; one that has already ended keeps its first reason.
pub(crate) async fn session_end(conn: &mut Conn, id: SessionId, end: SessionEnd, now: Timestamp) -> db::Result<()> {
    let live = sessions::table.find(id).filter(sessions::end_time.is_null());
    let update = diesel::update(live).set((sessions::end_time.eq(now), sessions::end_reason.eq(end.as_str())));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}
