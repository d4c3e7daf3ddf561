//! `login_throttle`.

use diesel::upsert::excluded;
use shared::db::prelude::*;
use shared::{clock::Timestamp, db};

use super::schema::login_throttle;

/// Failures that were counted under a key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = login_throttle)]
pub(crate) struct Throttle {
    /// An HMAC of what is counted.
    pub(crate) key: Vec<u8>,
    pub(crate) failures: i64,
    /// No attempt is let in before.
    pub(crate) blocked_until: Timestamp,
    /// From then on nothing counts.
    pub(crate) expire_time: Timestamp,
}

pub(crate) async fn throttles_by_keys(conn: &mut Conn, keys: &[Vec<u8>]) -> db::Result<Vec<Throttle>> {
    query!(conn, |c| login_throttle::table
        .filter(login_throttle::key.eq_any(keys))
        .select(Throttle::as_select())
        .load(c)
        .await)
}

/// Reads the row of this key, which is made where there is none, and locks it.
pub(crate) async fn throttle_lock(conn: &mut Conn, key: &[u8], now: Timestamp) -> db::Result<Throttle> {
    let none = Throttle {
        key: key.to_vec(),
        failures: 0,
        blocked_until: now,
        expire_time: now,
    };
    query!(conn, |c| diesel::insert_into(login_throttle::table)
        .values(&none)
        .on_conflict(login_throttle::key)
        .do_update()
        // Changes nothing: it is what locks the row.
        .set(login_throttle::key.eq(excluded(login_throttle::key)))
        .returning(Throttle::as_returning())
        .cached()
        .get_result(c)
        .await)
}

pub(crate) async fn throttle_update(conn: &mut Conn, row: &Throttle) -> db::Result<()> {
    let update = diesel::update(login_throttle::table.find(&row.key)).set((
        login_throttle::failures.eq(row.failures),
        login_throttle::blocked_until.eq(row.blocked_until),
        login_throttle::expire_time.eq(row.expire_time),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Takes one failure back, and the wait that it brought.
pub(crate) async fn throttle_take_back(conn: &mut Conn, key: &[u8], now: Timestamp) -> db::Result<()> {
    let counted = login_throttle::table.find(key).filter(login_throttle::failures.gt(0));
    let update = diesel::update(counted).set((
        login_throttle::failures.eq(login_throttle::failures - 1),
        login_throttle::blocked_until.eq(now),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn throttle_delete(conn: &mut Conn, key: &[u8]) -> db::Result<()> {
    let delete = diesel::delete(login_throttle::table.find(key));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Keys of rows that count no longer, at most `limit`, sorted.
pub(crate) async fn throttles_expired(conn: &mut Conn, now: Timestamp, limit: i64) -> db::Result<Vec<Vec<u8>>> {
    query!(conn, |c| login_throttle::table
        .filter(login_throttle::expire_time.le(now))
        .order(login_throttle::key)
        .limit(limit)
        .select(login_throttle::key)
        .load(c)
        .await)
}

/// Deletes the row of this key where it counts no longer.
pub(crate) async fn throttle_delete_expired(conn: &mut Conn, key: &[u8], now: Timestamp) -> db::Result<()> {
    let delete = diesel::delete(
        login_throttle::table
            .find(key)
            .filter(login_throttle::expire_time.le(now)),
    );
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}
