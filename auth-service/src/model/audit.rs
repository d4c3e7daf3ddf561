//! The entries of the audit log.

use std::collections::BTreeMap;

use base::{clock::Timestamp, ids::UserId};
use db::text_enum;

use crate::ids::AuditEventId;

/// An entry of the audit log. A text that is not known is empty.
#[derive(Clone, Debug)]
pub(crate) struct AuditEntry {
    pub(crate) id: AuditEventId,
    pub(crate) event_time: Timestamp,
    /// `<subject>.<verb>`.
    pub(crate) action: String,
    pub(crate) outcome: AuditOutcome,
    /// Reason of a refusal, from `ErrorReason`.
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
    /// Whether the action was done.
    pub(crate) enum AuditOutcome {
        /// It was done.
        Success = "success",
        /// It was refused.
        Failure = "failure",
    }
}

/// Entries to list. A field that is `None` or empty matches every entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) actor_user_id: Option<UserId>,
    pub(crate) subject_user_id: Option<UserId>,
    /// An action, or the beginning of one and a `*`.
    pub(crate) action: String,
    pub(crate) outcome: Option<AuditOutcome>,
    /// Inclusive.
    pub(crate) start: Option<Timestamp>,
    /// Exclusive.
    pub(crate) end: Option<Timestamp>,
    pub(crate) ip_address: String,
}
