//! The audit log: who did what to whom, when, from where, with which outcome. An event is written
//! in the transaction of what it tells of, and never holds a secret.

use std::fmt::Display;

use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
};
use db::{Conn, Db, write_tx};

use crate::{
    domain::{
        error::Error,
        request_context::{Actor, RequestContext},
    },
    ids::AuditEventId,
    model::{AuditEntry, AuditOutcome},
    store,
};

/// Something that was done, or refused.
#[derive(Clone, Debug)]
pub(crate) struct AuditEvent {
    /// `<subject>.<verb>`.
    action: &'static str,
    /// The reason of the refusal; `None` where it was done.
    refused: Option<&'static str>,
    target_type: &'static str,
    target_id: String,
    subject: Option<UserId>,
    details: Vec<(&'static str, String)>,
}

impl AuditEvent {
    /// Something that was done to the deployment.
    pub(crate) const fn new(action: &'static str) -> Self {
        Self {
            action,
            refused: None,
            target_type: "deployment",
            target_id: String::new(),
            subject: None,
            details: Vec::new(),
        }
    }

    /// It was done to this thing.
    pub(crate) fn target(mut self, target_type: &'static str, id: impl Display) -> Self {
        self.target_type = target_type;
        self.target_id = format!("{id}");
        self
    }

    /// It was done to this user.
    pub(crate) fn user(self, id: UserId) -> Self {
        self.target("user", id).concerning(id)
    }

    /// It concerns this user.
    pub(crate) const fn concerning(mut self, id: UserId) -> Self {
        self.subject = Some(id);
        self
    }

    /// It was refused, for this reason of `ErrorReason`.
    pub(crate) const fn refused(mut self, reason: &'static str) -> Self {
        self.refused = Some(reason);
        self
    }

    /// Adds a detail. Never a secret.
    pub(crate) fn detail(mut self, key: &'static str, value: impl Display) -> Self {
        self.details.push((key, format!("{value}")));
        self
    }

    /// Writes it in the act's own transaction.
    pub(crate) async fn record(self, tx: &mut Conn, context: &RequestContext, now: Timestamp) -> db::Result<()> {
        let client_id = match &context.actor {
            Actor::Anonymous => "",
            Actor::Principal(principal) => principal.client_id(),
            Actor::CommandLine => "command-line",
            Actor::Itself => "auth-service",
        };
        let entry = AuditEntry {
            id: AuditEventId::generate(),
            event_time: now,
            action: self.action.to_owned(),
            outcome: match self.refused {
                None => AuditOutcome::Success,
                Some(_) => AuditOutcome::Failure,
            },
            reason: self.refused.unwrap_or_default().to_owned(),
            actor_user_id: context.user_id(),
            actor_client_id: client_id.to_owned(),
            target_type: self.target_type.to_owned(),
            target_id: self.target_id,
            subject_user_id: self.subject,
            ip_address: context.origin.address_text(),
            user_agent: context.origin.user_agent.clone(),
            request_id: context.origin.request_id.clone(),
            details: self
                .details
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        };
        store::audit_insert(tx, entry).await
    }
}

/// Use cases that write refusals to the audit log.
pub(in crate::domain) trait Records {
    fn db(&self) -> &Db;
    fn clock(&self) -> &Clock;
}

/// Writes the event down where the use case was refused for want of authority. What it had done is
/// rolled back by then.
pub(in crate::domain) async fn recording_refusals<T>(
    of: &impl Records,
    context: &RequestContext,
    event: AuditEvent,
    use_case: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let result = use_case.await;
    let reason = match &result {
        Err(Error::SuperuserRequired) => "SUPERUSER_REQUIRED",
        Err(Error::GrantExceedsOwn(_)) => "GRANT_EXCEEDS_OWN",
        Err(Error::LastAdmin) => "LAST_ADMIN",
        _ => return result,
    };
    let recorded: Result<(), Error> = write_tx!(of.db(), |tx| {
        event.refused(reason).record(tx, context, of.clock().now()).await?;
        Ok(())
    });
    recorded?;
    result
}
