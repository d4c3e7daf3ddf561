//! Events of the audit log: who did what to whom, when, from where and with which outcome. An event
//! is written in the transaction of the change that it records, or in its own if the change is
//! refused. It never holds a secret.

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

/// An event to write: an action that was carried out or refused.
#[derive(Clone, Debug)]
pub(crate) struct AuditEvent {
    /// Name of the action, in the form `<subject>.<verb>`.
    action: &'static str,
    /// Reason of the refusal; `None` if the action was carried out.
    refused: Option<&'static str>,
    target_type: &'static str,
    target_id: String,
    subject: Option<UserId>,
    details: Vec<(&'static str, String)>,
}

impl AuditEvent {
    /// Creates an event for an action that was carried out on the deployment.
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

    /// Sets the object on which the action was carried out.
    pub(crate) fn target(mut self, target_type: &'static str, id: impl Display) -> Self {
        self.target_type = target_type;
        self.target_id = format!("{id}");
        self
    }

    /// Sets this user as the object of the action, and as the user concerned.
    pub(crate) fn user(self, id: UserId) -> Self {
        self.target("user", id).concerning(id)
    }

    /// Sets the user whom a caller has named as the object of the action, if there is such a user.
    pub(crate) fn named_user(self, found: Option<UserId>) -> Self {
        match found {
            Some(id) => self.user(id),
            None => self.target("user", ""),
        }
    }

    /// Sets the user whom the event concerns.
    pub(crate) const fn concerning(mut self, id: UserId) -> Self {
        self.subject = Some(id);
        self
    }

    /// Marks the action as refused. The reason is the name of an `ErrorReason` without its prefix,
    /// or `USER_DEACTIVATED`.
    pub(crate) const fn refused(mut self, reason: &'static str) -> Self {
        self.refused = Some(reason);
        self
    }

    /// Adds a detail, which must not be a secret.
    pub(crate) fn detail(mut self, key: &'static str, value: impl Display) -> Self {
        self.details.push((key, format!("{value}")));
        self
    }

    /// Writes the event in the transaction of the action.
    pub(crate) async fn record(self, tx: &mut Conn, context: &RequestContext, now: Timestamp) -> db::Result<()> {
        store::audit_insert(tx, self.entry(context, now)).await
    }

    /// Returns the entry of the event, for a transaction that writes several.
    pub(in crate::domain) fn entry(self, context: &RequestContext, now: Timestamp) -> AuditEntry {
        let client_id = match &context.actor {
            Actor::Anonymous => "",
            Actor::Principal(principal) => principal.client_id(),
            Actor::CommandLine => "command-line",
            Actor::Itself => "auth-service",
        };
        AuditEntry {
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
        }
    }
}

/// Use cases whose refusals are written to the audit log.
pub(in crate::domain) trait Records {
    fn db(&self) -> &Db;
    fn clock(&self) -> &Clock;
}

/// Runs the use case. If it is refused for lack of authority, or because no superuser would be
/// left, writes the event as a refusal. The changes of the use case have been rolled back by then.
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
