//! Queries on `mail_outbox`, `mail_requests` and `mail_quota`.

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, prelude::*, prepared};
use diesel::sql_types::{BigInt, Binary};

use super::{
    columns::columns,
    schema::{mail_outbox, mail_quota, mail_requests},
};
use crate::{
    ids::{MailId, MailRequestId},
    model::{MailKind, OutboxMail},
};

columns!(insertable OutboxMail in mail_outbox {
    id: MailId,
    user_id: UserId,
    kind: MailKind,
    recipient: String,
    locale: String,
    content: String,
    attempts: i64,
    create_time: Timestamp,
    attempt_time: Timestamp,
});

/// A request for a mail, as it is stored.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = mail_requests)]
pub(crate) struct StoredRequest {
    pub(crate) id: MailRequestId,
    pub(crate) create_time: Timestamp,
    /// The request, encrypted.
    pub(crate) sealed: Vec<u8>,
}

pub(crate) async fn mail_insert(conn: &mut Conn, mail: &OutboxMail) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(mail_outbox::table)
        .values(mail)
        .execute(c)
        .await)
    .map(|_| ())
}

/// Condition for mails that are due: their next attempt is due, or so far ahead that a wrong clock
/// must have set it. A newer version may have written kinds that this one does not know, so they
/// are left out.
macro_rules! is_due {
    ($now:expr, $far_ahead:expr) => {
        mail_outbox::attempt_time
            .le($now)
            .or(mail_outbox::attempt_time.gt($far_ahead))
            .and(mail_outbox::kind.eq_any(MailKind::ALL))
    };
}

/// Returns whether a mail is due.
pub(crate) async fn mail_is_due(conn: &mut Conn, (now, far_ahead): (Timestamp, Timestamp)) -> db::Result<bool> {
    let id: Option<MailId> = query!(conn, |c| mail_outbox::table
        .filter(is_due!(now, far_ahead))
        .select(mail_outbox::id)
        .first(c)
        .await
        .optional())?;
    Ok(id.is_some())
}

/// Takes the mail that has been due for longest, and keeps others from taking it before
/// `lease_end`.
pub(crate) async fn mail_claim(
    conn: &mut Conn,
    (now, far_ahead): (Timestamp, Timestamp),
    lease_end: Timestamp,
) -> db::Result<Option<OutboxMail>> {
    let due = mail_outbox::table
        .filter(is_due!(now, far_ahead))
        .order((mail_outbox::attempt_time, mail_outbox::create_time))
        .limit(1);
    let id: Option<MailId> = if conn.backend() == Backend::Postgres {
        let due = due.select(mail_outbox::id).for_update().skip_locked();
        query_postgres!(conn, |c| due.first(c).await.optional())?
    } else {
        query!(conn, |c| due.select(mail_outbox::id).first(c).await.optional())?
    };
    let Some(id) = id else { return Ok(None) };
    let take = diesel::update(mail_outbox::table.find(id)).set((
        mail_outbox::attempt_time.eq(lease_end),
        mail_outbox::attempts.eq(mail_outbox::attempts + 1),
    ));
    query!(conn, |c| take
        .returning(OutboxMail::as_returning())
        .cached()
        .get_result(c)
        .await
        .optional())
}

/// Sets the time of the next attempt, unless another replica has taken the mail meanwhile.
pub(crate) async fn mail_postpone(conn: &mut Conn, mail: &OutboxMail, attempt_time: Timestamp) -> db::Result<()> {
    let taken = mail_outbox::table
        .find(mail.id)
        .filter(mail_outbox::attempts.eq(mail.attempts));
    let update = diesel::update(taken).set(mail_outbox::attempt_time.eq(attempt_time));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn mail_delete(conn: &mut Conn, mail: &OutboxMail) -> db::Result<()> {
    query!(conn, |c| diesel::delete(mail_outbox::table.find(mail.id))
        .execute(c)
        .await)
    .map(|_| ())
}

/// Deletes at most `limit` mails from before `before`. Returns how many there were.
pub(crate) async fn mails_delete_before(conn: &mut Conn, before: Timestamp, limit: i64) -> db::Result<usize> {
    let old = mail_outbox::table
        .filter(mail_outbox::create_time.lt(before))
        .order(mail_outbox::id)
        .limit(limit)
        .select(mail_outbox::id);
    let ids: Vec<MailId> = query!(conn, |c| old.load(c).await)?;
    let delete = diesel::delete(mail_outbox::table.filter(mail_outbox::id.eq_any(&ids)));
    query!(conn, |c| delete.execute(c).await)
}

/// Counts the mails that wait for their first attempt, up to `limit`.
pub(crate) async fn mails_count_untried(conn: &mut Conn, limit: i64) -> db::Result<i64> {
    let count = prepared::<BigInt>("SELECT count(*) FROM (SELECT 1 FROM mail_outbox WHERE attempts = 0 LIMIT ")
        .bind::<BigInt, _>(limit)
        .text(") AS untried");
    query!(conn, |c| count.get_result(c).await)
}

/// Deletes all mails to the user that have not been sent.
pub(crate) async fn mails_delete_of(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(mail_outbox::table.filter(mail_outbox::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Counts the mails that wait, up to `limit`.
pub(crate) async fn mails_count(conn: &mut Conn, limit: i64) -> db::Result<i64> {
    let count = prepared::<BigInt>("SELECT count(*) FROM (SELECT 1 FROM mail_outbox LIMIT ")
        .bind::<BigInt, _>(limit)
        .text(") AS waiting");
    query!(conn, |c| count.get_result(c).await)
}

/// Stores a request unless `limit` of them wait already. Returns whether it was stored.
pub(crate) async fn mail_request_insert(conn: &mut Conn, request: &StoredRequest, limit: i64) -> db::Result<bool> {
    let insert = prepared::<()>("INSERT INTO mail_requests (id, create_time, sealed) SELECT ")
        .bind::<sql_types::Uuid, _>(request.id)
        .text(", ")
        .bind::<sql_types::Timestamp, _>(request.create_time)
        .text(", ")
        .bind::<Binary, _>(&request.sealed)
        .text(" WHERE (SELECT count(*) FROM mail_requests) < ")
        .bind::<BigInt, _>(limit);
    query!(conn, |c| insert.execute(c).await).map(|rows| rows == 1)
}

/// Takes the oldest request that no other transaction has taken, and deletes it.
pub(crate) async fn mail_request_take(conn: &mut Conn) -> db::Result<Option<StoredRequest>> {
    let oldest = mail_requests::table.order(mail_requests::id).limit(1);
    let id: Option<MailRequestId> = if conn.backend() == Backend::Postgres {
        let oldest = oldest.select(mail_requests::id).for_update().skip_locked();
        query_postgres!(conn, |c| oldest.first(c).await.optional())?
    } else {
        query!(conn, |c| oldest.select(mail_requests::id).first(c).await.optional())?
    };
    let Some(id) = id else { return Ok(None) };
    query!(conn, |c| diesel::delete(mail_requests::table.find(id))
        .returning(StoredRequest::as_returning())
        .get_result(c)
        .await
        .optional())
}

/// Returns whether a request waits.
pub(crate) async fn mail_requests_exist(conn: &mut Conn) -> db::Result<bool> {
    let id: Option<MailRequestId> = query!(conn, |c| mail_requests::table
        .select(mail_requests::id)
        .first(c)
        .await
        .optional())?;
    Ok(id.is_some())
}

/// Returns at most `limit` requests from before `before`.
pub(crate) async fn mail_requests_before(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> db::Result<Vec<MailRequestId>> {
    query!(conn, |c| mail_requests::table
        .filter(mail_requests::create_time.lt(before))
        .order(mail_requests::id)
        .limit(limit)
        .select(mail_requests::id)
        .load(c)
        .await)
}

/// Deletes these requests.
pub(crate) async fn mail_requests_delete(conn: &mut Conn, ids: &[MailRequestId]) -> db::Result<()> {
    let delete = diesel::delete(mail_requests::table.filter(mail_requests::id.eq_any(ids)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Counts the mails to this address between two times.
pub(crate) async fn mail_quota_used(
    conn: &mut Conn,
    recipient: &[u8],
    (since, until): (Timestamp, Timestamp),
) -> db::Result<i64> {
    query!(conn, |c| mail_quota::table
        .filter(mail_quota::recipient.eq(recipient))
        .filter(mail_quota::create_time.gt(since))
        .filter(mail_quota::create_time.le(until))
        .count()
        .get_result(c)
        .await)
}

/// Counts a mail to this address.
pub(crate) async fn mail_quota_insert(conn: &mut Conn, id: MailId, recipient: &[u8], now: Timestamp) -> db::Result<()> {
    let values = (
        mail_quota::id.eq(id),
        mail_quota::recipient.eq(recipient),
        mail_quota::create_time.eq(now),
    );
    query!(conn, |c| diesel::insert_into(mail_quota::table)
        .values(values)
        .execute(c)
        .await)
    .map(|_| ())
}

/// Returns at most `limit` counted mails from before `before`, or from after `after`, as a wrong
/// clock leaves them. Sorted, which is the order in which rows are locked.
pub(crate) async fn mail_quota_outside(
    conn: &mut Conn,
    (before, after): (Timestamp, Timestamp),
    limit: i64,
) -> db::Result<Vec<MailId>> {
    let is_outside = mail_quota::create_time.lt(before).or(mail_quota::create_time.gt(after));
    query!(conn, |c| mail_quota::table
        .filter(is_outside)
        .order(mail_quota::id)
        .limit(limit)
        .select(mail_quota::id)
        .load(c)
        .await)
}

/// No longer counts these mails.
pub(crate) async fn mail_quota_delete(conn: &mut Conn, ids: &[MailId]) -> db::Result<()> {
    let delete = diesel::delete(mail_quota::table.filter(mail_quota::id.eq_any(ids)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}
