//! The end of sessions. Each end is stored, recorded in the audit log, and published to the
//! services that verify the session's access tokens. The caller has locked the user's row, and
//! publishes the returned change as the last step of its transaction.

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use db::Conn;

use crate::{
    domain::{audit::event::AuditEvent, counts, feed::Change, request_context::RequestContext},
    model::SessionEnd,
    store,
};

/// Ends a live session of this user.
pub(in crate::domain) async fn end(
    tx: &mut Conn,
    context: &RequestContext,
    (session, user): (SessionId, UserId),
    end: SessionEnd,
    now: Timestamp,
) -> db::Result<Change> {
    store::session_end(tx, session, end, now).await?;
    counts::sessions_ended(end, 1);
    let event = match end {
        SessionEnd::Logout => AuditEvent::new("session.logout"),
        SessionEnd::Revoked => AuditEvent::new("session.revoke"),
        SessionEnd::RefreshTokenReused => {
            AuditEvent::new("session.refresh_token_reused").refused("REFRESH_TOKEN_REUSED")
        }
        _ => AuditEvent::new("session.end").detail("reason", end.as_str()),
    };
    event
        .target("session", session)
        .concerning(user)
        .record(tx, context, now)
        .await?;
    Ok(Change::SessionRevoked(session))
}
