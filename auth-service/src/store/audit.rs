//! `audit_events`.

use shared::db::prelude::*;
use shared::{clock::Timestamp, db, ids::UserId};

use super::schema::audit_events;
use crate::ids::AuditEventId;

/// An event.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events)]
pub(crate) struct AuditRow {
    pub(crate) id: AuditEventId,
    pub(crate) event_time: Timestamp,
    pub(crate) action: String,
    pub(crate) outcome: String,
    pub(crate) reason: String,
    pub(crate) actor_user_id: Option<UserId>,
    pub(crate) actor_client_id: String,
    pub(crate) target_type: String,
    pub(crate) target_id: String,
    pub(crate) subject_user_id: Option<UserId>,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) request_id: String,
    /// A JSON object of texts.
    pub(crate) details: String,
}

pub(crate) async fn audit_insert(conn: &mut Conn, row: &AuditRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(audit_events::table)
        .values(row)
        .execute(c)
        .await)
    .map(|_| ())
}
