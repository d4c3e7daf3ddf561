//! Queries on `login_throttle`.

use base::clock::Timestamp;
use db::prelude::*;
use diesel::upsert::excluded;

use super::schema::login_throttle;

/// The failures that were counted under a key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = login_throttle)]
pub(crate) struct Throttle {
    /// HMAC of the identifier, device, user or network whose failures are counted.
    pub(crate) key: Vec<u8>,
    pub(crate) failures: i64,
    /// Time before which no attempt is admitted, or [`UNBLOCKED`] while the failures require no
    /// wait.
    pub(crate) blocked_until: Timestamp,
    /// Time from which the failures no longer count.
    pub(crate) expire_time: Timestamp,
}

/// Value of `blocked_until` in a row that blocks nothing: a time that is past by every clock.
pub(crate) const UNBLOCKED: Timestamp = Timestamp::from_micros(0);

/// Reads the rows of one or two keys. With a list of keys, PostgreSQL would plan the statement anew
/// at each execution.
pub(crate) async fn throttles_by_keys(conn: &mut Conn, keys: &[Vec<u8>]) -> db::Result<Vec<Throttle>> {
    let [one, other @ ..] = keys else {
        return Ok(Vec::new());
    };
    let other = other.first().unwrap_or(one);
    query!(conn, |c| login_throttle::table
        .filter(login_throttle::key.eq(one).or(login_throttle::key.eq(other)))
        .select(Throttle::as_select())
        .load(c)
        .await)
}

/// Reads the row of this key and locks it. Inserts the row if there is none.
pub(crate) async fn throttle_lock(conn: &mut Conn, key: &[u8], now: Timestamp) -> db::Result<Throttle> {
    let none = Throttle {
        key: key.to_vec(),
        failures: 0,
        blocked_until: UNBLOCKED,
        expire_time: now,
    };
    query!(conn, |c| diesel::insert_into(login_throttle::table)
        .values(&none)
        .on_conflict(login_throttle::key)
        .do_update()
        // This assignment changes nothing. It locks the row.
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

/// Takes back a counted failure that required no wait.
pub(crate) async fn throttle_take_back(conn: &mut Conn, key: &[u8]) -> db::Result<()> {
    let counted = login_throttle::table.find(key).filter(login_throttle::failures.gt(0));
    let update = diesel::update(counted).set(login_throttle::failures.eq(login_throttle::failures - 1));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn throttle_delete(conn: &mut Conn, key: &[u8]) -> db::Result<()> {
    let delete = diesel::delete(login_throttle::table.find(key));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Returns whether a row expires after `latest`. By the present clock, no row can.
pub(crate) async fn throttles_outlast(conn: &mut Conn, latest: Timestamp) -> db::Result<bool> {
    let row: Option<i64> = query!(conn, |c| login_throttle::table
        .filter(login_throttle::expire_time.gt(latest))
        .select(login_throttle::failures)
        .first(c)
        .await
        .optional())?;
    Ok(row.is_some())
}

/// Returns at most `limit` keys after this one, sorted, of rows that block until after `blocked` or
/// expire after `expire`.
pub(crate) async fn throttles_beyond(
    conn: &mut Conn,
    blocked: Timestamp,
    expire: Timestamp,
    after: &[u8],
    limit: i64,
) -> db::Result<Vec<Vec<u8>>> {
    query!(conn, |c| login_throttle::table
        .filter(login_throttle::key.gt(after))
        .filter(
            login_throttle::blocked_until
                .gt(blocked)
                .or(login_throttle::expire_time.gt(expire))
        )
        .order(login_throttle::key)
        .limit(limit)
        .select(login_throttle::key)
        .load(c)
        .await)
}

/// Ends the block under this key, and makes the row expire at `expire` at the latest.
pub(crate) async fn throttle_unblock(conn: &mut Conn, key: &[u8], expire: Timestamp) -> db::Result<()> {
    let row = login_throttle::table.find(key);
    let unblock = diesel::update(row).set(login_throttle::blocked_until.eq(UNBLOCKED));
    query!(conn, |c| unblock.execute(c).await)?;
    let later = row.filter(login_throttle::expire_time.gt(expire));
    let shorten = diesel::update(later).set(login_throttle::expire_time.eq(expire));
    query!(conn, |c| shorten.execute(c).await).map(|_| ())
}

/// Returns the keys of at most `limit` rows that expired at `from` or later, and when they expired:
/// those that expired first come first.
pub(crate) async fn throttles_expired(
    conn: &mut Conn,
    from: Timestamp,
    now: Timestamp,
    limit: i64,
) -> db::Result<Vec<(Vec<u8>, Timestamp)>> {
    query!(conn, |c| login_throttle::table
        .filter(login_throttle::expire_time.ge(from))
        .filter(login_throttle::expire_time.le(now))
        .order(login_throttle::expire_time)
        .limit(limit)
        .select((login_throttle::key, login_throttle::expire_time))
        .load(c)
        .await)
}

/// Deletes the row of this key if it has expired.
pub(crate) async fn throttle_delete_expired(conn: &mut Conn, key: &[u8], now: Timestamp) -> db::Result<()> {
    let delete = diesel::delete(
        login_throttle::table
            .find(key)
            .filter(login_throttle::expire_time.le(now)),
    );
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}
