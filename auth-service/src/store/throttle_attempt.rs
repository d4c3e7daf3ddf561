//! Queries on `login_throttle` that count and settle an attempt to log in, each in one statement.
//!
//! They are raw SQL, because diesel has no conditional upsert from a `SELECT`. A login counts in
//! two rows, for its account and its address. Counting them takes one statement here instead of
//! four (a lock and an update each), and settling takes one instead of two. `cargo run --release -p
//! bench -- login` measures the cost of a login.

use base::{clock::Timestamp, sql_types};
use db::{prelude::*, prepared};
use diesel::sql_types::{BigInt, Binary, Nullable};

use super::throttle::UNBLOCKED;

/// A failure to count under a key. It requires no wait while the count, with this failure, is below
/// `free`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) free: i64,
}

/// Counts those of one or two failures that require no wait. Returns the keys whose failures were
/// counted; the other rows are unchanged.
pub(crate) async fn throttles_count(
    conn: &mut Conn,
    failures: &[Failure<'_>],
    now: Timestamp,
    expire_time: Timestamp,
) -> db::Result<Vec<Vec<u8>>> {
    let [one, other @ ..] = failures else {
        return Ok(Vec::new());
    };
    let other = other.first();
    // Rows are locked in the order of their keys, as everywhere.
    let count =
        prepared::<Binary>("INSERT INTO login_throttle (key, failures, blocked_until, expire_time) SELECT key, 1, ")
            .bind::<sql_types::Timestamp, _>(UNBLOCKED)
            .text(", ")
            .bind::<sql_types::Timestamp, _>(expire_time)
            .text(" FROM (SELECT ")
            .bind::<Binary, _>(one.key)
            .text(" AS key UNION ALL SELECT ")
            .bind::<Nullable<Binary>, _>(other.map(|other| other.key))
            .text(
                ") AS counted WHERE key IS NOT NULL ORDER BY key ON CONFLICT (key) DO UPDATE SET \
                 failures = CASE WHEN login_throttle.expire_time > ",
            )
            .bind::<sql_types::Timestamp, _>(now)
            .text(
                " THEN login_throttle.failures ELSE 0 END + 1, \
                 blocked_until = excluded.blocked_until, expire_time = excluded.expire_time \
                 WHERE login_throttle.expire_time <= ",
            )
            .bind::<sql_types::Timestamp, _>(now)
            .text(" OR login_throttle.failures + 1 < CASE WHEN login_throttle.key = ")
            .bind::<Binary, _>(one.key)
            .text(" THEN ")
            .bind::<BigInt, _>(one.free)
            .text(" ELSE ")
            .bind::<BigInt, _>(other.map_or(0, |other| other.free))
            .text(" END RETURNING key");
    query!(conn, |c| count.load(c).await)
}

/// Takes back one failure under the key `taken_back`, with the wait that it required, and clears
/// everything under the key `forgotten`.
pub(crate) async fn throttles_record_success(conn: &mut Conn, taken_back: &[u8], forgotten: &[u8]) -> db::Result<()> {
    let settle =
        prepared::<()>("INSERT INTO login_throttle (key, failures, blocked_until, expire_time) SELECT key, 0, ")
            .bind::<sql_types::Timestamp, _>(UNBLOCKED)
            .text(", ")
            // A row that is inserted here has already expired.
            .bind::<sql_types::Timestamp, _>(UNBLOCKED)
            .text(" FROM (SELECT ")
            .bind::<Binary, _>(taken_back)
            .text(" AS key UNION ALL SELECT ")
            .bind::<Binary, _>(forgotten)
            .text(
                ") AS settled WHERE key IS NOT NULL ORDER BY key ON CONFLICT (key) DO UPDATE SET \
             failures = CASE WHEN login_throttle.failures > 0 AND login_throttle.key = ",
            )
            .bind::<Binary, _>(taken_back)
            .text(
                " THEN login_throttle.failures - 1 ELSE 0 END, blocked_until = excluded.blocked_until, \
             expire_time = CASE WHEN login_throttle.key = ",
            )
            .bind::<Binary, _>(taken_back)
            .text(" THEN login_throttle.expire_time ELSE excluded.expire_time END");
    query!(conn, |c| settle.execute(c).await).map(|_| ())
}
