//! `audit_events`.

use base::{clock::Timestamp, ids::UserId, page::PageRequest};
use db::prelude::*;

use super::schema::audit_events;
use crate::ids::{AuditEventId, AuditEventKind};

/// An event.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false)]
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

/// Which events are listed; what is `None` or empty does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) actor_user_id: Option<UserId>,
    pub(crate) subject_user_id: Option<UserId>,
    /// With a `*` at the end: what begins so.
    pub(crate) action: String,
    pub(crate) outcome: Option<&'static str>,
    /// From then on.
    pub(crate) start: Option<Timestamp>,
    /// Before then.
    pub(crate) end: Option<Timestamp>,
    pub(crate) ip_address: String,
}

/// Events, the newest first.
pub(crate) async fn audit_list(
    conn: &mut Conn,
    page: &PageRequest<AuditEventKind>,
    filter: &AuditFilter,
) -> db::Result<Vec<AuditRow>> {
    let begins = filter
        .action
        .strip_suffix('*')
        .map(|prefix| format!("{}%", prefix.replace('_', r"\_")));
    query!(conn, |c| {
        let mut found = audit_events::table.into_boxed();
        if let Some(actor) = filter.actor_user_id {
            found = found.filter(audit_events::actor_user_id.eq(actor));
        }
        if let Some(subject) = filter.subject_user_id {
            found = found.filter(audit_events::subject_user_id.eq(subject));
        }
        if let Some(begins) = &begins {
            found = found.filter(audit_events::action.like(begins).escape('\\'));
        } else if !filter.action.is_empty() {
            found = found.filter(audit_events::action.eq(&filter.action));
        }
        if let Some(outcome) = filter.outcome {
            found = found.filter(audit_events::outcome.eq(outcome));
        }
        if let Some(start) = filter.start {
            found = found.filter(audit_events::event_time.ge(start));
        }
        if let Some(end) = filter.end {
            found = found.filter(audit_events::event_time.lt(end));
        }
        if !filter.ip_address.is_empty() {
            found = found.filter(audit_events::ip_address.eq(&filter.ip_address));
        }
        if let Some(after) = page.after {
            let tie = audit_events::event_time
                .lt(after.time)
                .or(audit_events::id.lt(after.id));
            found = found.filter(audit_events::event_time.le(after.time).and(tie));
        }
        found
            .order((audit_events::event_time.desc(), audit_events::id.desc()))
            .limit(page.limit())
            .select(AuditRow::as_select())
            .load(c)
            .await
    })
}

/// Deletes at most `limit` events from before this time. How many.
pub(crate) async fn audit_delete_before(conn: &mut Conn, before: Timestamp, limit: i64) -> db::Result<usize> {
    let old: Vec<AuditEventId> = query!(conn, |c| audit_events::table
        .filter(audit_events::event_time.lt(before))
        .order((audit_events::event_time, audit_events::id))
        .limit(limit)
        .select(audit_events::id)
        .load(c)
        .await)?;
    if old.is_empty() {
        return Ok(0);
    }
    let delete = diesel::delete(audit_events::table.filter(audit_events::id.eq_any(&old)));
    query!(conn, |c| delete.execute(c).await)
}
