//! `auth.v1.AuditService`.

use std::{collections::HashMap, net::IpAddr};

use base::{
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use proto::auth::v1::{
    AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse, audit_event::Outcome,
    audit_service_server::AuditService,
};
use tonic::{Request, Response, Status};

use crate::{
    domain::{AuditFilter, AuditLog, AuditRow, Error},
    ids::AuditEventKind,
};

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
const MAX_ACTION_LEN: usize = 100;

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
        let (events, next_page_token) = self.log.list(&page, &filter, &query).await?;
        Ok(Response::new(ListAuditEventsResponse {
            events: events.into_iter().map(event).collect::<Result<_, _>>()?,
            next_page_token,
        }))
    }
}

/// The page, the filter, and the list that the page is of.
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
    let action = request.action.strip_suffix('*').unwrap_or(&request.action);
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte);
    if action.len() > MAX_ACTION_LEN || !action.bytes().all(allowed) {
        fields.reject(
            "action",
            "must be an action such as user.delete, or a prefix followed by *",
        );
    } else {
        filter.action.clone_from(&request.action);
    }
    filter.outcome = match Outcome::try_from(request.outcome) {
        Ok(Outcome::Unspecified) => None,
        Ok(Outcome::Success) => Some(SUCCESS),
        Ok(Outcome::Failure) => Some(FAILURE),
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

fn event(row: AuditRow) -> Result<AuditEvent, Error> {
    let details: HashMap<String, String> = serde_json::from_str(&row.details)
        .map_err(|error| Error::Internal(format!("the details of the audit event {}: {error}", row.id)))?;
    let text = |id: Option<base::ids::UserId>| id.map(|id| id.to_string()).unwrap_or_default();
    Ok(AuditEvent {
        event_id: row.id.to_string(),
        event_time: Some(row.event_time.into()),
        action: row.action,
        outcome: if row.outcome == SUCCESS {
            Outcome::Success
        } else {
            Outcome::Failure
        }
        .into(),
        reason: row.reason,
        actor_user_id: text(row.actor_user_id),
        actor_client_id: row.actor_client_id,
        target_type: row.target_type,
        target_id: row.target_id,
        subject_user_id: text(row.subject_user_id),
        ip_address: row.ip_address,
        user_agent: row.user_agent,
        request_id: row.request_id,
        // An empty one says nothing, and would be the end of a gateway: see `ErrorReply`.
        details: details.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
    })
}
