//! Requests of callers who are not signed in for a mail with a code.
//!
//! The call stores the request, encrypted, and does no more. A job looks the user up and writes the
//! mail. Mails to one address are limited, so that nobody can be flooded with them.

use std::{net::IpAddr, time::Duration};

use db::{Conn, write_tx};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        mail::{
            code_mails::{MailLimit, Posted},
            outbox::Mails,
        },
        request_context::{Actor, Origin, RequestContext},
        users::{names, people::person_by_identifier},
    },
    ids::MailRequestId,
    model::{CodePurpose, User},
    store::{self, StoredRequest},
};

/// Number of requests that can wait. Each is answered within milliseconds.
const MAX_WAITING: i64 = 1000;
/// Number of mails that can wait for their first attempt before requests wait as well.
const MAX_UNTRIED: i64 = 10_000;
/// Pause suggested to a caller while too many requests wait.
const RETRY: Duration = Duration::from_secs(5);

/// A request for a mail with a code that replaces a forgotten password.
#[derive(Serialize, Deserialize)]
pub(crate) struct ResetRequest {
    /// The login or the e-mail address, as typed.
    pub(crate) identifier: String,
    /// Device token from an earlier login on this device; empty if there is none.
    pub(crate) device_token: String,
    /// Language of the caller, a BCP 47 tag, or empty.
    pub(crate) locale: String,
}

/// A request with its origin, as it is stored.
#[derive(Serialize, Deserialize)]
struct SealedRequest<T> {
    request: T,
    address: Option<IpAddr>,
    user_agent: String,
    request_id: String,
}

impl Mails {
    /// Stores a request. Does the same whether or not the user exists.
    pub(in crate::domain) async fn store_request(
        &self,
        context: &RequestContext,
        request: &ResetRequest,
    ) -> Result<(), Error> {
        self.ensure_configured()?;
        let id = MailRequestId::generate();
        let Origin {
            address,
            user_agent,
            request_id,
            ..
        } = context.origin.clone();
        let request = SealedRequest {
            request,
            address,
            user_agent,
            request_id,
        };
        let text = serde_json::to_vec(&request).map_err(|error| Error::Internal(error.to_string()))?;
        let sealed = self.requests.seal(id.as_uuid().as_bytes(), &text);
        let stored = StoredRequest {
            id,
            create_time: self.clock.now(),
            sealed: sealed.ok_or_else(|| Error::Internal("cannot encrypt a request for a mail".to_owned()))?,
        };
        let has_room: Result<bool, Error> =
            write_tx!(self.db, |tx| Ok(
                store::mail_request_insert(tx, &stored, MAX_WAITING).await?
            ));
        if has_room? {
            Ok(())
        } else {
            Err(Error::MailQueueFull(RETRY))
        }
    }

    /// Answers the requests that wait, the oldest first. A job calls this periodically.
    pub(crate) async fn answer_requests(&self) -> Result<(), Error> {
        if self.mailer.is_none() {
            return Ok(());
        }
        self.time.refresh().await?;
        loop {
            let mut conn = self.db.read().await?;
            if !store::mail_requests_exist(&mut conn).await?
                || store::mails_count_untried(&mut conn, MAX_UNTRIED).await? >= MAX_UNTRIED
            {
                return Ok(());
            }
            drop(conn);
            let is_last: Result<bool, Error> = write_tx!(self.db, |tx| {
                let Some(stored) = store::mail_request_take(tx).await? else {
                    return Ok(true);
                };
                let opened = self.requests.open(stored.id.as_uuid().as_bytes(), &stored.sealed);
                let request: Option<SealedRequest<ResetRequest>> =
                    opened.and_then(|(text, _)| serde_json::from_slice(&text).ok());
                match request {
                    Some(sealed) => counts::mail_request(self.answer(tx, sealed).await?),
                    // The server secret was replaced twice since, or the row is corrupt.
                    None => counts::mail_request("unreadable"),
                }
                Ok(false)
            });
            if is_last? {
                return Ok(());
            }
            // On SQLite the queries do not suspend.
            tokio::task::yield_now().await;
        }
    }

    /// Writes the mail that was asked for, if there is such a user. Returns the outcome for the
    /// metric.
    async fn answer(&self, tx: &mut Conn, sealed: SealedRequest<ResetRequest>) -> Result<&'static str, Error> {
        let request = sealed.request;
        let context = RequestContext {
            actor: Actor::Anonymous,
            origin: Origin {
                address: sealed.address,
                bucket: None,
                user_agent: sealed.user_agent,
                request_id: sealed.request_id,
            },
        };
        let key = names::identifier_key(request.identifier.trim());
        let Some(found) = person_by_identifier(tx, &key).await? else {
            return Ok("unknown_user");
        };
        let locked = store::user_lock(tx, found.id).await?;
        let Some(mut user) = locked.filter(|user| user.is_person() && user.is_active) else {
            return Ok("unknown_user");
        };
        let is_own_device = self.is_own_device(tx, &user, &request.device_token).await?;
        let limit = if is_own_device {
            MailLimit::KnownDevice
        } else {
            MailLimit::Anyone
        };
        if user.locale.is_empty() {
            user.locale = request.locale;
        }
        match self
            .post_code(tx, &user, CodePurpose::PasswordReset, None, limit)
            .await?
        {
            Posted::Yes => {}
            Posted::TooMany => return Ok("too_many"),
            Posted::Unreachable => return Ok("unreachable"),
        }
        AuditEvent::new("user.request_password_reset")
            .user(user.id)
            .record(tx, &context, self.clock.now())
            .await?;
        Ok("answered")
    }

    /// Returns whether the token is from a device on which the user has logged in.
    async fn is_own_device(&self, tx: &mut Conn, user: &User, device_token: &str) -> Result<bool, Error> {
        match self.devices.tokens.read(device_token, user.id) {
            Some(device) => Ok(self.devices.is_known(tx, user, device).await?),
            None => Ok(false),
        }
    }
}
