//! Queries for data of one user that only the export reads.
//!
//! Purposes and kinds are read as texts, because a newer version may have written some that this
//! one does not know.

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{account_codes, mail_outbox, sessions},
};
use crate::{
    ids::DeviceId,
    model::{MailedCode, WaitingMail},
};

columns!(MailedCode in account_codes {
    purpose: String,
    typed_tries: i64,
    create_time: Timestamp,
    expire_time: Timestamp,
    email: Option<String>,
});

columns!(WaitingMail in mail_outbox {
    kind: String,
    recipient: String,
    locale: String,
    attempts: i64,
    create_time: Timestamp,
});

/// Reads the user's codes.
pub(crate) async fn mailed_codes_of_user(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<MailedCode>> {
    query!(conn, |c| account_codes::table
        .filter(account_codes::user_id.eq(user_id))
        .order(account_codes::purpose)
        .select(MailedCode::as_select())
        .load(c)
        .await)
}

/// Reads at most `limit` mails to the user that wait, the newest first.
pub(crate) async fn mails_of_user(conn: &mut Conn, user_id: UserId, limit: i64) -> db::Result<Vec<WaitingMail>> {
    query!(conn, |c| mail_outbox::table
        .filter(mail_outbox::user_id.eq(user_id))
        .order((mail_outbox::create_time.desc(), mail_outbox::id))
        .limit(limit)
        .select(WaitingMail::as_select())
        .load(c)
        .await)
}

/// Reads the devices of these sessions.
pub(crate) async fn devices_of_sessions(
    conn: &mut Conn,
    ids: &[SessionId],
) -> db::Result<Vec<(SessionId, Option<DeviceId>)>> {
    query!(conn, |c| sessions::table
        .filter(sessions::id.eq_any(ids))
        .select((sessions::id, sessions::device_id))
        .load(c)
        .await)
}
