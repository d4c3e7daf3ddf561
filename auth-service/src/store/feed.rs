//! Queries on `feed_head` and `access_feed`.

use access::view::Epoch;
use base::clock::Timestamp;
use db::{Backend, prelude::*, prepared};
use diesel::{sql_types::Bool, upsert::excluded};

use super::{
    columns::columns,
    schema::{access_feed, feed_head},
};
use crate::model::{FeedHead, FeedKind};

/// Id of the only row of `feed_head`.
const HEAD: i16 = 1;

columns!(FeedHead in feed_head {
    epoch: Epoch,
    sequence: i64,
    max_access_token_seconds: i64,
});

/// An event as it is stored. It replaces the earlier event of the same kind and subject.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = access_feed, treat_none_as_default_value = false)]
pub(crate) struct FeedRow {
    pub(crate) sequence: i64,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) event: Vec<u8>,
    pub(crate) expire_time: Option<Timestamp>,
}

impl FeedRow {
    /// Returns whether the event is of this kind. A kind that only a later version knows matches
    /// none of ours, and is not an error, so that the other events can still be read.
    pub(crate) fn is(&self, kind: FeedKind) -> bool {
        self.kind == kind.as_str()
    }
}

/// Reads the end of the feed. Fails on a server in recovery: it may lag behind, and nothing can be
/// published there.
pub(crate) async fn feed_head(conn: &mut Conn) -> db::Result<Option<FeedHead>> {
    let is_in_recovery = match conn.backend() {
        Backend::Sqlite => "FALSE",
        Backend::Postgres => "pg_is_in_recovery()",
    };
    let head: Option<(FeedHead, bool)> = query!(conn, |c| feed_head::table
        .find(HEAD)
        .select((FeedHead::as_select(), prepared::<Bool>(is_in_recovery)))
        .first(c)
        .await
        .optional())?;
    match head {
        Some((_, true)) => Err(conn.reject_as_read_only()),
        head => Ok(head.map(|(head, _)| head)),
    }
}

pub(crate) async fn feed_head_insert(conn: &mut Conn, epoch: Epoch, max_access_token_seconds: i64) -> db::Result<()> {
    let values = (
        feed_head::id.eq(HEAD),
        feed_head::epoch.eq(epoch),
        feed_head::sequence.eq(0),
        feed_head::max_access_token_seconds.eq(max_access_token_seconds),
    );
    query!(conn, |c| diesel::insert_into(feed_head::table)
        .values(values)
        .execute(c)
        .await)
    .map(|_| ())
}

pub(crate) async fn feed_head_set_max_access_token_seconds(conn: &mut Conn, seconds: i64) -> db::Result<()> {
    let update = diesel::update(feed_head::table.find(HEAD)).set(feed_head::max_access_token_seconds.eq(seconds));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Reserves this many sequence numbers and returns the new head, which has the last of them. Other
/// transactions wait for this one before they get theirs.
pub(crate) async fn feed_head_advance(conn: &mut Conn, count: i64) -> db::Result<FeedHead> {
    let update = diesel::update(feed_head::table.find(HEAD)).set(feed_head::sequence.eq(feed_head::sequence + count));
    query!(conn, |c| update
        .returning(FeedHead::as_returning())
        .cached()
        .get_result(c)
        .await)
}

/// Replaces the epoch of the feed.
pub(crate) async fn feed_head_set_epoch(conn: &mut Conn, epoch: Epoch) -> db::Result<FeedHead> {
    let update = diesel::update(feed_head::table.find(HEAD)).set(feed_head::epoch.eq(epoch));
    query!(conn, |c| update
        .returning(FeedHead::as_returning())
        .cached()
        .get_result(c)
        .await)
}

pub(crate) async fn feed_upsert(conn: &mut Conn, row: &FeedRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(access_feed::table)
        .values(row)
        .on_conflict((access_feed::kind, access_feed::subject))
        .do_update()
        .set((
            access_feed::sequence.eq(excluded(access_feed::sequence)),
            access_feed::event.eq(excluded(access_feed::event)),
            access_feed::expire_time.eq(excluded(access_feed::expire_time)),
        ))
        .cached()
        .execute(c)
        .await)
    .map(|_| ())
}

/// Returns at most `limit` events after this sequence number, in order.
pub(crate) async fn feed_after(conn: &mut Conn, sequence: i64, limit: i64) -> db::Result<Vec<FeedRow>> {
    query!(conn, |c| access_feed::table
        .filter(access_feed::sequence.gt(sequence))
        .order(access_feed::sequence)
        .limit(limit)
        .select(FeedRow::as_select())
        .load(c)
        .await)
}

/// Returns the event of this kind about this subject.
pub(crate) async fn feed_event(conn: &mut Conn, kind: FeedKind, subject: &str) -> db::Result<Option<Vec<u8>>> {
    query!(conn, |c| access_feed::table
        .filter(access_feed::kind.eq(kind))
        .filter(access_feed::subject.eq(subject))
        .select(access_feed::event)
        .first(c)
        .await
        .optional())
}

/// Reads the head and locks it until the transaction ends. Nothing else is published in the
/// meantime.
pub(crate) async fn feed_head_lock(conn: &mut Conn) -> db::Result<FeedHead> {
    let head = lock_row!(conn, feed_head::table.find(HEAD).select(FeedHead::as_select()))?;
    head.ok_or(db::Error::NotFound)
}

/// Starts a new epoch of the feed. Only the events of the kind `kept` remain, renumbered from 1.
pub(crate) async fn feed_restart(conn: &mut Conn, epoch: Epoch, kept: FeedKind) -> db::Result<()> {
    query!(conn, |c| diesel::delete(
        access_feed::table.filter(access_feed::kind.ne(kept))
    )
    .execute(c)
    .await)?;
    let sequences: Vec<i64> = query!(conn, |c| access_feed::table
        .order(access_feed::sequence)
        .select(access_feed::sequence)
        .load(c)
        .await)?;
    let mut head = 0;
    for sequence in sequences {
        // The new number is never above the old one, so no two rows collide.
        head += 1;
        let row = access_feed::table.filter(access_feed::sequence.eq(sequence));
        let update = diesel::update(row).set(access_feed::sequence.eq(head));
        query!(conn, |c| update.cached().execute(c).await)?;
    }
    let update =
        diesel::update(feed_head::table.find(HEAD)).set((feed_head::epoch.eq(epoch), feed_head::sequence.eq(head)));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Deletes at most `limit` events up to this sequence number that have expired by the time `past`,
/// those that expired first. Returns when the last of them expired, or `None` if there are none.
/// The scan of the index starts at `from`, so that it does not pass again over what was deleted
/// before.
pub(crate) async fn feed_purge(
    conn: &mut Conn,
    from: Timestamp,
    past: Timestamp,
    up_to: i64,
    limit: i64,
) -> db::Result<Option<Timestamp>> {
    let expired: Vec<(i64, Timestamp)> = query!(conn, |c| access_feed::table
        .filter(access_feed::expire_time.ge(from))
        .filter(access_feed::expire_time.le(past))
        .filter(access_feed::sequence.le(up_to))
        .order(access_feed::expire_time)
        .limit(limit)
        .select((access_feed::sequence, access_feed::expire_time.assume_not_null()))
        .load(c)
        .await)?;
    let Some((_, last)) = expired.last() else {
        return Ok(None);
    };
    let sequences: Vec<i64> = expired.iter().map(|(sequence, _)| *sequence).collect();
    let delete = diesel::delete(access_feed::table.filter(access_feed::sequence.eq_any(sequences)));
    query!(conn, |c| delete.execute(c).await)?;
    Ok(Some(*last))
}
