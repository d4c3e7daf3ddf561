//! Statements that write the rows of many logins at once, for group commits on PostgreSQL.
//!
//! Inserts take their rows as arrays, one per column, so that the statement is the same however
//! many rows there are, and is planned once.

use std::collections::BTreeMap;

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{prelude::*, prepared};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text};

use super::{
    NewSession,
    audit::details_text,
    holding::{direct, parse_token_holdings, roles},
    schema::users,
    throttle::UNBLOCKED,
};
use crate::{
    ids::DeviceId,
    model::{AuditEntry, TokenHoldings, User},
};

type Uuids = Array<sql_types::Uuid>;
type OptionalUuids = Array<Nullable<sql_types::Uuid>>;
type Texts = Array<Text>;
type BigInts = Array<BigInt>;
type Bools = Array<Bool>;
type Timestamps = Array<sql_types::Timestamp>;
type OptionalTimestamps = Array<Nullable<sql_types::Timestamp>>;
type OptionalTexts = Array<Nullable<Text>>;

/// One column of these rows.
fn column<'a, Row, Value>(rows: &'a [Row], value: impl Fn(&'a Row) -> Value) -> Vec<Value> {
    rows.iter().map(value).collect()
}

/// Condition under which a user can begin a session without the end of another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionRoom<'a> {
    /// Maximum number of sessions that have not ended, with the new one.
    pub(crate) max_unended: i64,
    /// Maximum number of sessions that have ended.
    pub(crate) max_ended: i64,
    /// Devices of the new sessions. No session on them may live.
    pub(crate) devices: &'a [DeviceId],
}

/// Reads those of these users whose rows are not locked, and locks the rows until the transaction
/// ends, so that others can still insert rows that refer to them.
pub(crate) async fn users_lock_together(conn: &mut Conn, ids: &[UserId]) -> db::Result<Vec<User>> {
    query_postgres!(conn, |c| users::table
        .filter(users::id.eq_any(ids))
        .order(users::id)
        .select(User::as_select())
        .for_no_key_update()
        .skip_locked()
        .cached()
        .load(c)
        .await)
}

/// Records the logins of those of these users who have [room](SessionRoom) for a session, and none
/// that has expired. Returns them with the holdings that go into access tokens. Their rows are
/// locked, in a statement before this one, which would not see what was committed meanwhile.
pub(crate) async fn users_record_logins(
    conn: &mut Conn,
    ids: &[UserId],
    room: SessionRoom<'_>,
    now: Timestamp,
) -> db::Result<Vec<(User, TokenHoldings)>> {
    let has_room = prepared::<Bool>("(SELECT count(*) FILTER (WHERE end_time IS NULL) < ")
        .bind::<BigInt, _>(room.max_unended)
        .text(" AND count(*) FILTER (WHERE end_time IS NOT NULL) <= ")
        .bind::<BigInt, _>(room.max_ended)
        .text(" AND count(*) FILTER (WHERE end_time IS NULL AND (expire_time <= ")
        .bind::<sql_types::Timestamp, _>(now)
        .text(" OR device_id = ANY(")
        .bind::<Uuids, _>(room.devices)
        .text("))) = 0 FROM sessions WHERE sessions.user_id = users.id)");
    let have_room = users::table.filter(users::id.eq_any(ids)).filter(has_room);
    let update = diesel::update(have_room).set(users::last_login_time.eq(now));
    let recorded: Vec<(User, Option<String>, Option<String>)> = query_postgres!(conn, |c| update
        .returning((User::as_returning(), roles(), direct()))
        .cached()
        .get_results(c)
        .await)?;
    let parsed = recorded.into_iter().map(|(user, roles, direct)| {
        let holdings = parse_token_holdings(roles.as_deref(), direct.as_deref());
        (user, holdings)
    });
    Ok(parsed.collect())
}

pub(crate) async fn sessions_insert_together(conn: &mut Conn, rows: &[&NewSession]) -> db::Result<()> {
    let insert = prepared::<()>(
        "INSERT INTO sessions (id, user_id, counter, is_used, create_time, rotate_time, expire_time, \
         absolute_expire_time, device_id, ip_address, user_agent, last_use_time, sweep_time, auth_time, auth_methods, \
         acr) SELECT * FROM unnest(",
    )
    .bind::<Uuids, _>(column(rows, |row| row.id))
    .text(", ")
    .bind::<Uuids, _>(column(rows, |row| row.user_id))
    .text(", ")
    .bind::<BigInts, _>(column(rows, |row| row.counter))
    .text(", ")
    .bind::<Bools, _>(column(rows, |row| row.is_used))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.create_time))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.rotate_time))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.expire_time))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.absolute_expire_time))
    .text(", ")
    .bind::<OptionalUuids, _>(column(rows, |row| row.device_id))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.ip_address.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.user_agent.as_str()))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.last_use_time))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.sweep_time))
    .text(", ")
    .bind::<OptionalTimestamps, _>(column(rows, |row| row.auth_time))
    .text(", ")
    .bind::<OptionalTexts, _>(column(rows, |row| row.auth_methods.as_deref()))
    .text(", ")
    .bind::<OptionalTexts, _>(column(rows, |row| row.acr.as_deref()))
    .text(")");
    query_postgres!(conn, |c| insert.execute(c).await).map(drop)
}

pub(crate) async fn audit_insert_together(conn: &mut Conn, entries: &[AuditEntry]) -> db::Result<()> {
    let insert = prepared::<()>(
        "INSERT INTO audit_events (id, event_time, action, outcome, reason, actor_user_id, actor_client_id, \
         target_type, target_id, subject_user_id, ip_address, user_agent, request_id, details) SELECT * FROM unnest(",
    )
    .bind::<Uuids, _>(column(entries, |entry| entry.id))
    .text(", ")
    .bind::<Timestamps, _>(column(entries, |entry| entry.event_time))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.action.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.outcome.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.reason.as_str()))
    .text(", ")
    .bind::<OptionalUuids, _>(column(entries, |entry| entry.actor_user_id))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.actor_client_id.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.target_type.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.target_id.as_str()))
    .text(", ")
    .bind::<OptionalUuids, _>(column(entries, |entry| entry.subject_user_id))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.ip_address.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.user_agent.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, |entry| entry.request_id.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(entries, details_text))
    .text(")");
    query_postgres!(conn, |c| insert.execute(c).await).map(drop)
}

/// Takes back these numbers of failures under these keys, with the waits that they required. Zero
/// clears everything under its key. Rows are locked in the order of their keys, as everywhere.
pub(crate) async fn throttles_record_successes(conn: &mut Conn, settled: &BTreeMap<Vec<u8>, i64>) -> db::Result<()> {
    let settle = prepared::<()>(
        "INSERT INTO login_throttle (key, failures, blocked_until, expire_time) SELECT settled.key, taken_back, ",
    )
    .bind::<sql_types::Timestamp, _>(UNBLOCKED)
    .text(", ")
    // A row that is inserted here has already expired.
    .bind::<sql_types::Timestamp, _>(UNBLOCKED)
    .text(" FROM unnest(")
    .bind::<Array<Binary>, _>(settled.keys().map(Vec::as_slice).collect::<Vec<_>>())
    .text(", ")
    .bind::<BigInts, _>(settled.values().copied().collect::<Vec<_>>())
    .text(
        ") AS settled (key, taken_back) ORDER BY settled.key ON CONFLICT (key) DO UPDATE SET \
         failures = CASE WHEN excluded.failures = 0 THEN 0 \
         ELSE greatest(login_throttle.failures - excluded.failures, 0) END, blocked_until = excluded.blocked_until, \
         expire_time = CASE WHEN excluded.failures = 0 THEN excluded.expire_time ELSE login_throttle.expire_time END",
    );
    query_postgres!(conn, |c| settle.execute(c).await).map(drop)
}
