//! `sessions`.

use shared::db::prelude::*;
use shared::{
    clock::Timestamp,
    db,
    ids::{SessionId, UserId},
};

use super::schema::sessions;
use crate::ids::DeviceId;

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
    pub(crate) end_reason: Option<String>,
    pub(crate) create_time: Timestamp,
    pub(crate) device_id: Option<DeviceId>,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) last_use_time: Timestamp,
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
    pub(crate) device_id: Option<DeviceId>,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) last_use_time: Timestamp,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SessionEnd {
    /// The user logged out.
    Logout,
    /// An old refresh token came back.
    RefreshTokenReused,
    /// It was not rotated in time.
    Expired,
    /// The user, or an administrator, ended it from elsewhere.
    Revoked,
    /// The password changed.
    PasswordChanged,
    /// The user was deactivated.
    UserDeactivated,
    /// The user was deleted.
    UserDeleted,
    /// The user had too many.
    SessionLimit,
    /// The same device logged in again.
    DeviceReplaced,
    /// The database was put back from a back-up.
    Restored,
}

impl SessionEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::PasswordChanged => "password_changed",
            Self::UserDeactivated => "user_deactivated",
            Self::UserDeleted => "user_deleted",
            Self::SessionLimit => "session_limit",
            Self::DeviceReplaced => "device_replaced",
            Self::Restored => "restored",
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

/// Ends every live session of the user but `keep`. How many.
pub(crate) async fn sessions_end_all(
    conn: &mut Conn,
    user_id: UserId,
    keep: Option<SessionId>,
    end: SessionEnd,
    now: Timestamp,
) -> db::Result<usize> {
    // No session has the nil id.
    let keep = keep.unwrap_or(SessionId::from_uuid(uuid::Uuid::nil()));
    let live = sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::end_time.is_null())
        .filter(sessions::id.ne(keep));
    let update = diesel::update(live).set((sessions::end_time.eq(now), sessions::end_reason.eq(end.as_str())));
    query!(conn, |c| update.execute(c).await)
}

/// Forgets where the user's sessions were used, and by which devices.
pub(crate) async fn sessions_forget_origins(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let update = diesel::update(sessions::table.filter(sessions::user_id.eq(user_id))).set((
        sessions::device_id.eq(None::<DeviceId>),
        sessions::ip_address.eq(""),
        sessions::user_agent.eq(""),
    ));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

/// Ends every live session of everybody. How many.
pub(crate) async fn sessions_end_everybodys(conn: &mut Conn, end: SessionEnd, now: Timestamp) -> db::Result<usize> {
    let live = sessions::table.filter(sessions::end_time.is_null());
    let update = diesel::update(live).set((sessions::end_time.eq(now), sessions::end_reason.eq(end.as_str())));
    query!(conn, |c| update.execute(c).await)
}
