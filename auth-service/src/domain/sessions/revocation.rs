//! Revocation of the tokens of a user. The caller has locked the user's row, and publishes the
//! returned change.

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use db::Conn;

use crate::{
    domain::{counts, feed::Change},
    model::SessionEnd,
    store,
};

/// Result of a logout everywhere.
#[derive(Debug)]
pub(in crate::domain) struct Revoked {
    /// Version that the user's next tokens carry.
    pub(in crate::domain) token_version: i64,
    /// Number of sessions that ended.
    pub(in crate::domain) sessions: usize,
    pub(in crate::domain) change: Change,
}

/// Ends every session of the user except `keep`, and refuses every earlier access token and every
/// code that was mailed to the user.
pub(in crate::domain) async fn log_out_everywhere(
    tx: &mut Conn,
    user_id: UserId,
    keep: Option<SessionId>,
    end: SessionEnd,
    now: Timestamp,
) -> db::Result<Revoked> {
    let sessions = store::sessions_end_all(tx, user_id, keep, end, now).await?;
    counts::sessions_ended(end, sessions);
    if end == SessionEnd::PasswordChanged {
        store::user_set_force_logout_time(tx, user_id, now).await?;
    } else {
        store::user_set_force_logout_time_unless_temporary(tx, user_id, now).await?;
    }
    store::account_codes_delete(tx, user_id).await?;
    let (token_version, change) = make_stale(tx, user_id).await?;
    Ok(Revoked {
        token_version,
        sessions,
        change,
    })
}

/// Refuses every earlier access token, because its content is no longer true of the user. The
/// sessions stay live, and issue new tokens. Returns the new token version, and the change to
/// publish.
pub(in crate::domain) async fn make_stale(tx: &mut Conn, user_id: UserId) -> db::Result<(i64, Change)> {
    let min_version = store::user_raise_token_version(tx, user_id).await?;
    Ok((min_version, Change::UserTokensRevoked { user_id, min_version }))
}
