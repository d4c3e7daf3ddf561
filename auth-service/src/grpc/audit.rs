//! `auth.v1.AuditService`.

use std::{collections::HashMap, net::IpAddr};

use base::{
    ids::UserId,
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use proto::auth::v1::{
    AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse, audit_event::Outcome,
    audit_service_server::AuditService,
};
use tonic::{Request, Response, Status};

use crate::{
    domain::AuditLog,
    ids::AuditEventKind,
    model::{AuditEntry, AuditFilter, AuditOutcome, is_audit_action},
};

/// Serves `auth.v1.AuditService`.
#[derive(Clone, Debug)]
pub(crate) struct AuditRpc {
    pub(crate) log: AuditLog,
}

#[tonic::async_trait]
impl AuditService for AuditRpc {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let (page, filter, query) = listing(&request.into_inner())?;
        let (entries, logins, next_page_token) = self.log.list(&page, &filter, &query).await?;
        Ok(Response::new(ListAuditEventsResponse {
            events: entries.into_iter().map(|entry| event(entry, &logins)).collect(),
            next_page_token,
        }))
    }
}

/// Returns the page, the filter, and the query that page tokens are bound to.
fn listing(
    request: &ListAuditEventsRequest,
) -> Result<(PageRequest<AuditEventKind>, AuditFilter, String), InvalidFields> {
    let mut fields = Fields::new();
    let mut filter = AuditFilter::default();
    if !request.actor_user_id.is_empty() {
        filter.actor_user_id = fields.id("actor_user_id", &request.actor_user_id);
    }
    if !request.subject_user_id.is_empty() {
        filter.subject_user_id = fields.id("subject_user_id", &request.subject_user_id);
    }
    if request.action.is_empty() || is_audit_action(&request.action) {
        filter.action.clone_from(&request.action);
    } else {
        fields.reject(
            "action",
            "must be an action that AuditEvent lists, such as user.delete, or the beginning of some and a *, such as \
             user.*",
        );
    }
    filter.outcome = match Outcome::try_from(request.outcome) {
        Ok(Outcome::Unspecified) => None,
        Ok(Outcome::Success) => Some(AuditOutcome::Success),
        Ok(Outcome::Failure) => Some(AuditOutcome::Failure),
        Err(_) => {
            fields.reject("outcome", "must be OUTCOME_SUCCESS or OUTCOME_FAILURE");
            None
        }
    };
    filter.start = fields.time("start_time", request.start_time);
    filter.end = fields.time("end_time", request.end_time);
    if !request.ip_address.is_empty() {
        let address = request.ip_address.parse::<IpAddr>();
        let address = fields.check("ip_address", address.map_err(|_| "must be an IP address"));
        filter.ip_address = address
            .map(|address| address.to_canonical().to_string())
            .unwrap_or_default();
    }
    let query = format!("ListAuditEvents {filter:?}");
    let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, &query);
    fields.finish(|| Some((page?, filter, query)))
}

/// Converts an entry. `logins` are the logins of the users in it.
pub(super) fn event(entry: AuditEntry, logins: &HashMap<UserId, String>) -> AuditEvent {
    let login = |id: Option<UserId>| id.and_then(|id| logins.get(&id)).cloned().unwrap_or_default();
    let text = |id: Option<UserId>| id.map(|id| id.to_string()).unwrap_or_default();
    let outcome = match entry.outcome {
        AuditOutcome::Success => Outcome::Success,
        AuditOutcome::Failure => Outcome::Failure,
    };
    AuditEvent {
        event_id: entry.id.to_string(),
        event_time: Some(entry.event_time.into()),
        action: entry.action,
        outcome: outcome.into(),
        reason: entry.reason,
        actor_user_id: text(entry.actor_user_id),
        actor_login: login(entry.actor_user_id),
        actor_client_id: entry.actor_client_id,
        target_type: entry.target_type,
        target_id: entry.target_id,
        subject_user_id: text(entry.subject_user_id),
        subject_login: login(entry.subject_user_id),
        ip_address: entry.ip_address,
        user_agent: entry.user_agent,
        request_id: entry.request_id,
        // An empty value says nothing, and would make a gateway crash: see `ErrorReply`.
        details: entry
            .details
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect(),
    }
}
