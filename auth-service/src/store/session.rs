//! Queries on `sessions`.

use access::token::Acr;
use base::{
    clock::Timestamp,
    ids::{SessionId, SessionKind, UserId},
    page::PageRequest,
    sql_types,
};
use db::{Backend, prelude::*, prepared};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text};

use super::{columns::CorruptRow, schema::sessions};
use crate::{
    ids::DeviceId,
    model::{AuthMethods, Authentication, Ended, Session, SessionEnd},
};

/// Maximum number of ended sessions that one login deletes.
const MAX_FORGOTTEN: i64 = 100;

/// Number of sessions up to which PostgreSQL counts them exactly.
const MAX_COUNTED: i64 = 1000;

/// A row of the table.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(super) struct SessionRow {
    id: SessionId,
    user_id: UserId,
    counter: i64,
    is_used: bool,
    rotation_request: Option<Vec<u8>>,
    rotate_time: Timestamp,
    expire_time: Timestamp,
    absolute_expire_time: Timestamp,
    end_time: Option<Timestamp>,
    end_reason: Option<SessionEnd>,
    create_time: Timestamp,
    ip_address: String,
    user_agent: String,
    last_use_time: Timestamp,
    auth_time: Option<Timestamp>,
    auth_methods: Option<String>,
    acr: Option<String>,
}

impl SessionRow {
    /// Takes out the time and the methods of the login. A session that an earlier version began
    /// counts as begun with a password, as nearly all were.
    fn take_authentication(&mut self) -> Authentication {
        let (Some(time), Some(methods)) = (self.auth_time, self.auth_methods.take()) else {
            return Authentication::new(self.create_time, AuthMethods::PASSWORD);
        };
        // A class that this version does not know counts as the lowest.
        let acr = self.acr.as_deref().and_then(|acr| acr.parse().ok());
        Authentication {
            time,
            methods: AuthMethods::stored(methods),
            acr: acr.unwrap_or(Acr::OneFactor),
        }
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = CorruptRow;

    fn try_from(mut row: SessionRow) -> Result<Self, CorruptRow> {
        Ok(Self {
            authentication: row.take_authentication(),
            ended: match (row.end_time, row.end_reason) {
                (None, None) => None,
                (Some(time), Some(reason)) => Some(Ended { time, reason }),
                _ => {
                    return Err(CorruptRow {
                        table: "sessions",
                        id: row.id.to_string(),
                        what: "it has an end time or an end reason without the other",
                    });
                }
            },
            id: row.id,
            user_id: row.user_id,
            counter: row.counter,
            is_used: row.is_used,
            rotation_request: row.rotation_request,
            rotate_time: row.rotate_time,
            expire_time: row.expire_time,
            absolute_expire_time: row.absolute_expire_time,
            create_time: row.create_time,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            last_use_time: row.last_use_time,
        })
    }
}

/// A session to insert. Its first refresh token has the counter 1.
#[derive(Debug, Insertable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
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
    /// Time at which to check whether the session has expired.
    pub(crate) sweep_time: Timestamp,
    pub(crate) auth_time: Option<Timestamp>,
    pub(crate) auth_methods: Option<String>,
    pub(crate) acr: Option<String>,
}

/// The last use of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionUse {
    pub(crate) last_use_time: Timestamp,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
}

/// Columns that a use of a session's current refresh token writes. `sweep_time` stays as it is
/// unless the session now expires sooner, so that no index changes.
#[derive(Debug, AsChangeset)]
#[diesel(table_name = sessions, treat_none_as_null = true)]
pub(crate) struct TokenUse {
    /// Counter of the current refresh token from now on.
    pub(crate) counter: i64,
    /// Whether that token has been used.
    pub(crate) is_used: bool,
    pub(crate) rotation_request: Option<Vec<u8>>,
    pub(crate) rotate_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    pub(crate) last_use_time: Timestamp,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
}

pub(crate) async fn session_by_id(conn: &mut Conn, id: SessionId) -> db::Result<Option<Session>> {
    let row: Option<SessionRow> = query!(conn, |c| sessions::table
        .find(id)
        .select(SessionRow::as_select())
        .first(c)
        .await
        .optional())?;
    Ok(row.map(Session::try_from).transpose()?)
}

/// Reads the session and locks its row until the transaction ends.
pub(crate) async fn session_lock(conn: &mut Conn, id: SessionId) -> db::Result<Option<Session>> {
    let row: Option<SessionRow> = lock_row!(conn, sessions::table.find(id).select(SessionRow::as_select()))?;
    Ok(row.map(Session::try_from).transpose()?)
}

/// Writes a use of the refresh token with this counter. Returns false, and writes nothing, if the
/// session has ended or its token was replaced meanwhile.
pub(crate) async fn session_use_token(
    conn: &mut Conn,
    id: SessionId,
    counter: i64,
    token_use: &TokenUse,
) -> db::Result<bool> {
    let current = sessions::table
        .find(id)
        .filter(sessions::counter.eq(counter))
        .filter(sessions::end_time.is_null());
    // Unchanged but for a shorter life in the settings.
    let sweep_time = prepared::<sql_types::Timestamp>("CASE WHEN sweep_time < ")
        .bind::<sql_types::Timestamp, _>(token_use.expire_time)
        .text(" THEN sweep_time ELSE ")
        .bind::<sql_types::Timestamp, _>(token_use.expire_time)
        .text(" END");
    let update = diesel::update(current).set((token_use, sessions::sweep_time.eq(sweep_time)));
    query!(conn, |c| update.cached().execute(c).await).map(|rows| rows == 1)
}

/// Writes uses of refresh tokens of different sessions, each given by the session, the token's
/// counter and the use. Returns the sessions that were still at their counters and not locked.
///
/// On PostgreSQL only. The statement is planned once, however many sessions there are. PostgreSQL
/// takes the condition on `at_counter`, which always holds, for rare, and so looks the sessions up
/// one by one in an index, however small the table was when it planned.
pub(crate) async fn sessions_use_tokens(
    conn: &mut Conn,
    uses: &[(SessionId, i64, TokenUse)],
) -> db::Result<Vec<SessionId>> {
    type Timestamps = Array<sql_types::Timestamp>;
    let column =
        |time: fn(&TokenUse) -> Timestamp| -> Vec<Timestamp> { uses.iter().map(|(.., it)| time(it)).collect() };
    let write = prepared::<sql_types::Uuid>("WITH token_use AS MATERIALIZED (SELECT * FROM unnest(")
        .bind::<Array<sql_types::Uuid>, _>(uses.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<BigInt>, _>(uses.iter().map(|(_, counter, _)| *counter).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<BigInt>, _>(uses.iter().map(|(.., it)| it.counter).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<Bool>, _>(uses.iter().map(|(.., it)| it.is_used).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<Nullable<Binary>>, _>(
            uses.iter()
                .map(|(.., it)| it.rotation_request.as_deref())
                .collect::<Vec<_>>(),
        )
        .text(", ")
        .bind::<Timestamps, _>(column(|it| it.rotate_time))
        .text(", ")
        .bind::<Timestamps, _>(column(|it| it.expire_time))
        .text(", ")
        .bind::<Timestamps, _>(column(|it| it.last_use_time))
        .text(", ")
        .bind::<Array<Text>, _>(uses.iter().map(|(.., it)| it.ip_address.as_str()).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<Text>, _>(uses.iter().map(|(.., it)| it.user_agent.as_str()).collect::<Vec<_>>())
        .text(
            ") AS token_use (id, at_counter, counter, is_used, rotation_request, rotate_time, expire_time, \
             last_use_time, ip_address, user_agent) WHERE at_counter BETWEEN 1 AND 9223372036854775807), \
             locked AS MATERIALIZED (SELECT sessions.id FROM sessions JOIN token_use \
             ON sessions.id = token_use.id AND sessions.counter = token_use.at_counter AND sessions.end_time IS NULL \
             ORDER BY sessions.id FOR NO KEY UPDATE OF sessions SKIP LOCKED) \
             UPDATE sessions SET counter = token_use.counter, is_used = token_use.is_used, \
             rotation_request = token_use.rotation_request, rotate_time = token_use.rotate_time, \
             expire_time = token_use.expire_time, \
             sweep_time = least(sessions.sweep_time, token_use.expire_time), \
             last_use_time = token_use.last_use_time, \
             ip_address = token_use.ip_address, user_agent = token_use.user_agent \
             FROM token_use JOIN locked ON locked.id = token_use.id \
             WHERE sessions.id = token_use.id AND sessions.counter = token_use.at_counter \
             AND sessions.end_time IS NULL RETURNING sessions.id",
        );
    query_postgres!(conn, |c| write.load(c).await)
}

/// Counts the sessions that have not ended. PostgreSQL would have to read millions of index entries
/// for that, so beyond [`MAX_COUNTED`] it answers with the estimate that it keeps for its planner.
pub(crate) async fn sessions_count_unended(conn: &mut Conn) -> db::Result<i64> {
    if conn.backend() == Backend::Postgres {
        let count = prepared::<BigInt>(
            "SELECT count(*) FROM (SELECT 1 FROM sessions WHERE end_time IS NULL ORDER BY sweep_time LIMIT ",
        )
        .bind::<BigInt, _>(MAX_COUNTED + 1)
        .text(") AS counted");
        let counted: i64 = query_postgres!(conn, |c| count.get_result(c).await)?;
        if counted <= MAX_COUNTED {
            return Ok(counted);
        }
        // The index holds exactly these sessions.
        let estimate =
            prepared::<BigInt>("SELECT reltuples::bigint FROM pg_class WHERE oid = 'sessions_due_idx'::regclass");
        let estimate: i64 = query_postgres!(conn, |c| estimate.get_result(c).await)?;
        return Ok(estimate.max(counted));
    }
    query!(conn, |c| sessions::table
        .filter(sessions::end_time.is_null())
        .count()
        .get_result(c)
        .await)
}

/// Ends a session. A session that has already ended keeps its first reason.
pub(crate) async fn session_end(conn: &mut Conn, id: SessionId, end: SessionEnd, now: Timestamp) -> db::Result<()> {
    let live = sessions::table.find(id).filter(sessions::end_time.is_null());
    let update = diesel::update(live).set((sessions::end_time.eq(now), sessions::end_reason.eq(end)));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Ends every live session of the user except `keep`. Returns how many.
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
    let update = diesel::update(live).set((sessions::end_time.eq(now), sessions::end_reason.eq(end)));
    query!(conn, |c| update.cached().execute(c).await)
}

/// Clears the addresses, user agents and devices of the user's sessions.
pub(crate) async fn sessions_forget_origins(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let update = diesel::update(sessions::table.filter(sessions::user_id.eq(user_id))).set((
        sessions::device_id.eq(None::<DeviceId>),
        sessions::ip_address.eq(""),
        sessions::user_agent.eq(""),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// A session as evidence that its user has logged in from a device.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(crate) struct DeviceUse {
    pub(crate) device_id: Option<DeviceId>,
    pub(crate) last_use_time: Timestamp,
    pub(crate) end_reason: Option<SessionEnd>,
}

/// Returns at most `limit` sessions of the user that have a device, the most recently used first.
pub(crate) async fn device_uses(conn: &mut Conn, user_id: UserId, limit: i64) -> db::Result<Vec<DeviceUse>> {
    query!(conn, |c| sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::device_id.is_not_null())
        .order((sessions::last_use_time.desc(), sessions::id.desc()))
        .select(DeviceUse::as_select())
        .limit(limit)
        .load(c)
        .await)
}

/// Returns the devices from which the user has logged in, as far as their sessions are still
/// stored.
pub(crate) async fn devices_of_user(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<DeviceId>> {
    let devices: Vec<Option<DeviceId>> = query!(conn, |c| sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::device_id.is_not_null())
        .select(sessions::device_id)
        .distinct()
        .load(c)
        .await)?;
    Ok(devices.into_iter().flatten().collect())
}

/// Ends every live session of all users. Returns how many.
pub(crate) async fn sessions_end_of_all_users(conn: &mut Conn, end: SessionEnd, now: Timestamp) -> db::Result<usize> {
    let live = sessions::table.filter(sessions::end_time.is_null());
    let update = diesel::update(live).set((sessions::end_time.eq(now), sessions::end_reason.eq(end)));
    query!(conn, |c| update.cached().execute(c).await)
}

/// Returns the id, the device and the expiry of each session of the user that has not ended, the
/// longest idle one first.
pub(crate) async fn sessions_unended(
    conn: &mut Conn,
    user_id: UserId,
) -> db::Result<Vec<(SessionId, Option<DeviceId>, Timestamp)>> {
    query!(conn, |c| sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::end_time.is_null())
        .order((sessions::last_use_time, sessions::id))
        .select((sessions::id, sessions::device_id, sessions::expire_time))
        .load(c)
        .await)
}

/// Deletes ended sessions of the user beyond the `kept` most recent ones, at most [`MAX_FORGOTTEN`]
/// in one call.
pub(crate) async fn sessions_forget_ended(conn: &mut Conn, user_id: UserId, kept: i64) -> db::Result<()> {
    let ended: Vec<SessionId> = query!(conn, |c| sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::end_time.is_not_null())
        .order((sessions::end_time.desc(), sessions::id.desc()))
        .select(sessions::id)
        .offset(kept)
        .limit(MAX_FORGOTTEN)
        .load(c)
        .await)?;
    for id in ended {
        session_delete(conn, id).await?;
    }
    Ok(())
}

/// Lists a page of the user's sessions, the most recently used first: those that are live at
/// `live_at`, or all if it is `None`.
pub(crate) async fn sessions_list(
    conn: &mut Conn,
    user_id: UserId,
    live_at: Option<Timestamp>,
    page: &PageRequest<SessionKind>,
) -> db::Result<Vec<Session>> {
    let rows: Vec<SessionRow> = query!(conn, |c| {
        let mut listed = sessions::table
            .filter(sessions::user_id.eq(user_id))
            .order((sessions::last_use_time.desc(), sessions::id.desc()))
            .select(SessionRow::as_select())
            .limit(page.limit())
            .into_boxed();
        if let Some(now) = live_at {
            listed = listed
                .filter(sessions::end_time.is_null())
                .filter(sessions::expire_time.gt(now));
        }
        if let Some(after) = page.after {
            listed = listed.filter(
                sessions::last_use_time
                    .lt(after.time)
                    .or(sessions::last_use_time.eq(after.time).and(sessions::id.lt(after.id))),
            );
        }
        listed.load(c).await
    })?;
    Ok(rows.into_iter().map(Session::try_from).collect::<Result<_, _>>()?)
}

/// An unended session that is due for a check of its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(crate) struct DueSession {
    pub(crate) id: SessionId,
    pub(crate) expire_time: Timestamp,
    /// Time at which the check became due.
    pub(crate) sweep_time: Timestamp,
}

/// Returns at most `limit` unended sessions whose check became due at `from` or later, and by now:
/// those that are due longest first. With `from`, the scan of the index does not pass again over
/// what was due before and has been dealt with.
pub(crate) async fn sessions_due(
    conn: &mut Conn,
    from: Timestamp,
    now: Timestamp,
    limit: i64,
) -> db::Result<Vec<DueSession>> {
    query!(conn, |c| sessions::table
        .filter(sessions::sweep_time.ge(from))
        .filter(sessions::sweep_time.le(now))
        .filter(sessions::end_time.is_null())
        .order(sessions::sweep_time)
        .select(DueSession::as_select())
        .limit(limit)
        .load(c)
        .await)
}

/// Postpones the check of these sessions until they expire.
pub(crate) async fn sessions_postpone(conn: &mut Conn, ids: &[SessionId]) -> db::Result<()> {
    if conn.backend() == Backend::Postgres {
        // Sessions that are locked come again.
        let update = prepared::<()>(
            "UPDATE sessions SET sweep_time = expire_time WHERE id IN \
             (SELECT id FROM sessions WHERE end_time IS NULL AND id = ANY(",
        )
        .bind::<Array<sql_types::Uuid>, _>(ids)
        .text(") ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)");
        return query_postgres!(conn, |c| update.execute(c).await).map(drop);
    }
    let unended = sessions::table
        .filter(sessions::id.eq_any(ids))
        .filter(sessions::end_time.is_null());
    let update = diesel::update(unended).set(sessions::sweep_time.eq(sessions::expire_time));
    query!(conn, |c| update.execute(c).await).map(drop)
}

/// Reason why a session is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dead {
    /// It ended.
    Ended,
    /// It expired, and was not ended because of that.
    Expired,
}

/// Returns at most `limit` sessions that died before this moment, in the order of an index, each
/// with its place in that order. The scan of the index starts at the place `from`, so that it does
/// not pass again over the entries of sessions that were deleted before.
pub(crate) async fn sessions_dead(
    conn: &mut Conn,
    dead: Dead,
    from: Timestamp,
    before: Timestamp,
    limit: i64,
) -> db::Result<Vec<(SessionId, Timestamp)>> {
    match dead {
        Dead::Ended => query!(conn, |c| sessions::table
            .filter(sessions::end_time.ge(from))
            .filter(sessions::end_time.lt(before))
            .order(sessions::end_time)
            .select((sessions::id, sessions::end_time.assume_not_null()))
            .limit(limit)
            .load(c)
            .await),
        Dead::Expired => query!(conn, |c| sessions::table
            // This has the index, and is no later than the expiry.
            .filter(sessions::sweep_time.ge(from))
            .filter(sessions::sweep_time.lt(before))
            .filter(sessions::expire_time.lt(before))
            .order(sessions::sweep_time)
            .select((sessions::id, sessions::sweep_time))
            .limit(limit)
            .load(c)
            .await),
    }
}

pub(crate) async fn session_delete(conn: &mut Conn, id: SessionId) -> db::Result<()> {
    let delete = diesel::delete(sessions::table.find(id));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SessionRow {
        let now = Timestamp::from_micros(0);
        SessionRow {
            id: SessionId::generate(),
            user_id: UserId::generate(),
            counter: 1,
            is_used: false,
            rotation_request: None,
            rotate_time: now,
            expire_time: now,
            absolute_expire_time: now,
            end_time: None,
            end_reason: None,
            create_time: now,
            ip_address: String::new(),
            user_agent: String::new(),
            last_use_time: now,
            auth_time: None,
            auth_methods: None,
            acr: None,
        }
    }

    #[test]
    fn a_session_of_an_earlier_or_a_later_version_has_a_login_too() {
        let (begun, later) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        for (time, methods, acr, expected) in [
            (None, None, None, (begun, "pwd", Acr::OneFactor)),
            (Some(later), Some("swk"), Some("1"), (later, "swk", Acr::OneFactor)),
            (
                Some(later),
                Some("hwk user"),
                Some("2"),
                (later, "hwk user", Acr::TwoFactors),
            ),
            (Some(later), Some("pwd"), Some("3"), (later, "pwd", Acr::OneFactor)),
        ] {
            let row = SessionRow {
                create_time: begun,
                auth_time: time,
                auth_methods: methods.map(str::to_owned),
                acr: acr.map(str::to_owned),
                ..row()
            };
            let read = Session::try_from(row).ok().map(|session| session.authentication);
            let read = read.expect("a good row");
            assert_eq!((read.time, read.methods.as_str(), read.acr), expected);
        }
    }

    #[test]
    fn half_an_end_is_a_corrupt_row() {
        let time = Timestamp::from_micros(1);
        let reason = SessionEnd::Logout;
        for (end_time, end_reason, expected) in [
            (None, None, Some(None)),
            (Some(time), Some(reason), Some(Some(Ended { time, reason }))),
            (Some(time), None, None),
            (None, Some(reason), None),
        ] {
            let row = SessionRow {
                end_time,
                end_reason,
                ..row()
            };
            let ended = Session::try_from(row).ok().map(|session| session.ended);
            assert_eq!(ended, expected, "{end_time:?} {end_reason:?}");
        }
    }
}
