//! Queries on `audit_events`.

use base::{
    clock::Timestamp,
    ids::UserId,
    page::{PageRequest, Position},
    sql_types,
};
use db::{prelude::*, prepared};
use diesel::sql_types::BigInt;

use super::{columns::CorruptRow, schema::audit_events};
use crate::{
    ids::{AuditEventId, AuditEventKind},
    model::{AuditEntry, AuditFilter, AuditOutcome},
};

/// A row of the table. Its details are JSON.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false)]
struct AuditRow {
    id: AuditEventId,
    event_time: Timestamp,
    action: String,
    outcome: AuditOutcome,
    reason: String,
    actor_user_id: Option<UserId>,
    actor_client_id: String,
    target_type: String,
    target_id: String,
    subject_user_id: Option<UserId>,
    ip_address: String,
    user_agent: String,
    request_id: String,
    /// A JSON object whose values are texts.
    details: String,
}

impl From<AuditEntry> for AuditRow {
    fn from(entry: AuditEntry) -> Self {
        let details = details_text(&entry);
        Self {
            id: entry.id,
            event_time: entry.event_time,
            action: entry.action,
            outcome: entry.outcome,
            reason: entry.reason,
            actor_user_id: entry.actor_user_id,
            actor_client_id: entry.actor_client_id,
            target_type: entry.target_type,
            target_id: entry.target_id,
            subject_user_id: entry.subject_user_id,
            ip_address: entry.ip_address,
            user_agent: entry.user_agent,
            request_id: entry.request_id,
            details,
        }
    }
}

impl TryFrom<AuditRow> for AuditEntry {
    type Error = CorruptRow;

    fn try_from(row: AuditRow) -> Result<Self, CorruptRow> {
        let details = serde_json::from_str(&row.details).map_err(|_| CorruptRow {
            table: "audit_events",
            id: row.id.to_string(),
            what: "its details are not a JSON object of texts",
        })?;
        Ok(Self {
            id: row.id,
            event_time: row.event_time,
            action: row.action,
            outcome: row.outcome,
            reason: row.reason,
            actor_user_id: row.actor_user_id,
            actor_client_id: row.actor_client_id,
            target_type: row.target_type,
            target_id: row.target_id,
            subject_user_id: row.subject_user_id,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            request_id: row.request_id,
            details,
        })
    }
}

/// Returns the details of an entry as a JSON object.
pub(super) fn details_text(entry: &AuditEntry) -> String {
    serde_json::to_string(&entry.details).expect("texts are JSON")
}

/// Inserts an entry.
pub(crate) async fn audit_insert(conn: &mut Conn, entry: AuditEntry) -> db::Result<()> {
    let row = AuditRow::from(entry);
    query!(conn, |c| diesel::insert_into(audit_events::table)
        .values(&row)
        .execute(c)
        .await)
    .map(|_| ())
}

/// Lists a page of entries, newest first.
pub(crate) async fn audit_list(
    conn: &mut Conn,
    page: &PageRequest<AuditEventKind>,
    filter: &AuditFilter,
) -> db::Result<Vec<AuditEntry>> {
    let begins = filter
        .action
        .strip_suffix('*')
        .map(|prefix| format!("{}%", prefix.replace('_', r"\_")));
    let rows: Vec<AuditRow> = query!(conn, |c| {
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
    })?;
    Ok(rows.into_iter().map(AuditEntry::try_from).collect::<Result<_, _>>()?)
}

/// Deletes at most `limit` entries from before this time, oldest first. Returns the last one, or
/// `None` if there are none.
///
/// Both statements scan one range of the index by time. It begins at the last entry of the batch
/// before, so that the scan does not pass again over the index entries of what was deleted. To look
/// each entry up by its id would cost a page more for each level of that index. Rows are compared
/// as a whole, because any number of entries can have the same time. The times alone are compared
/// for the planner of PostgreSQL, which expects a range of times to be short.
pub(crate) async fn audit_delete_before(
    conn: &mut Conn,
    after: Option<Position<AuditEventKind>>,
    before: Timestamp,
    limit: i64,
) -> db::Result<Option<Position<AuditEventKind>>> {
    let after = after.unwrap_or(Position {
        time: Timestamp::EPOCH,
        id: AuditEventId::from_uuid(uuid::Uuid::nil()),
    });
    let last = prepared::<(sql_types::Timestamp, sql_types::Uuid)>(
        "SELECT event_time, id FROM audit_events WHERE (event_time, id) > (",
    )
    .bind::<sql_types::Timestamp, _>(after.time)
    .text(", ")
    .bind::<sql_types::Uuid, _>(after.id)
    .text(") AND event_time < ")
    .bind::<sql_types::Timestamp, _>(before)
    .text(" ORDER BY event_time, id LIMIT ")
    .bind::<BigInt, _>(limit);
    let old: Vec<(Timestamp, AuditEventId)> = query!(conn, |c| last.load(c).await)?;
    let Some((time, id)) = old.last().copied() else {
        return Ok(None);
    };
    let delete = prepared::<()>("DELETE FROM audit_events WHERE event_time BETWEEN ")
        .bind::<sql_types::Timestamp, _>(after.time)
        .text(" AND ")
        .bind::<sql_types::Timestamp, _>(time)
        .text(" AND (event_time, id) > (")
        .bind::<sql_types::Timestamp, _>(after.time)
        .text(", ")
        .bind::<sql_types::Uuid, _>(after.id)
        .text(") AND (event_time, id) <= (")
        .bind::<sql_types::Timestamp, _>(time)
        .text(", ")
        .bind::<sql_types::Uuid, _>(id)
        .text(")");
    query!(conn, |c| delete.execute(c).await)?;
    Ok(Some(Position { time, id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AuditEntry {
        AuditEntry {
            id: AuditEventId::generate(),
            event_time: Timestamp::from_micros(0),
            action: "user.create".to_owned(),
            outcome: AuditOutcome::Success,
            reason: String::new(),
            actor_user_id: None,
            actor_client_id: String::new(),
            target_type: "user".to_owned(),
            target_id: String::new(),
            subject_user_id: None,
            ip_address: String::new(),
            user_agent: String::new(),
            request_id: String::new(),
            details: [("roles".to_owned(), "player, \"x\"".to_owned())].into(),
        }
    }

    #[test]
    fn details_come_back_and_others_are_a_corrupt_row() {
        let entry = entry();
        let read = AuditEntry::try_from(AuditRow::from(entry.clone())).expect("a good row");
        assert_eq!(read.details, entry.details);
        for bad in ["", "[]", r#"{"roles": 1}"#] {
            let row = AuditRow {
                details: bad.to_owned(),
                ..AuditRow::from(entry.clone())
            };
            let error = AuditEntry::try_from(row).expect_err(bad).to_string();
            assert!(error.contains("audit_events"), "{error}");
        }
    }
}
