//! The entries of the audit log.

use std::collections::BTreeMap;

use base::{clock::Timestamp, ids::UserId};
use db::text_enum;

use crate::ids::AuditEventId;

/// An entry of the audit log. Unknown texts are empty.
#[derive(Clone, Debug)]
pub(crate) struct AuditEntry {
    pub(crate) id: AuditEventId,
    pub(crate) event_time: Timestamp,
    /// Name of the action, in the form `<subject>.<verb>`.
    pub(crate) action: String,
    pub(crate) outcome: AuditOutcome,
    /// Reason of a refusal: the name of an `ErrorReason` without its prefix, or `USER_DEACTIVATED`.
    pub(crate) reason: String,
    pub(crate) actor_user_id: Option<UserId>,
    pub(crate) actor_client_id: String,
    pub(crate) target_type: String,
    pub(crate) target_id: String,
    pub(crate) subject_user_id: Option<UserId>,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) request_id: String,
    pub(crate) details: BTreeMap<String, String>,
}

text_enum! {
    /// Outcome of an action.
    pub(crate) enum AuditOutcome {
        /// The action was carried out.
        Success = "success",
        /// The action was refused.
        Failure = "failure",
    }
}

/// Filter for entries of the audit log. A field that is `None` or empty matches every entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) actor_user_id: Option<UserId>,
    pub(crate) subject_user_id: Option<UserId>,
    /// Name of an action, or a prefix followed by `*`.
    pub(crate) action: String,
    pub(crate) outcome: Option<AuditOutcome>,
    /// Start of the time range, inclusive.
    pub(crate) start: Option<Timestamp>,
    /// End of the time range, exclusive.
    pub(crate) end: Option<Timestamp>,
    pub(crate) ip_address: String,
}
