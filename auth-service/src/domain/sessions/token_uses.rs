//! Changes that a use of a refresh token makes to its session. On PostgreSQL, uses that come at the
//! same time are written together.

use base::{clock::Timestamp, ids::SessionId};
use db::{Db, GroupOutcome, GroupWriter};
use uuid::Uuid;

use crate::{
    domain::error::Error,
    model::Session,
    store::{self, SessionUse, TokenUse},
};

/// Writes uses of refresh tokens. The outcome is false if the session has ended or its token was
/// replaced meanwhile.
#[derive(Debug)]
pub(crate) struct TokenUseWriter(pub(crate) Db);

impl GroupWriter for TokenUseWriter {
    /// The session, the counter of its token, and the use.
    type Write = (SessionId, i64, TokenUse);
    type Output = bool;
    type Error = Error;

    fn rows(&self, (session, ..): &Self::Write) -> Vec<Uuid> {
        vec![*session.as_uuid()]
    }

    async fn write_alone(&self, (session, counter, token_use): &Self::Write) -> Result<bool, Error> {
        let conn = &mut self.0.write().await?;
        Ok(store::session_use_token(conn, *session, *counter, token_use).await?)
    }

    async fn write_together(&self, uses: &[Self::Write]) -> db::Result<Vec<Option<GroupOutcome<Self>>>> {
        let written = store::sessions_use_tokens(&mut self.0.write().await?, uses).await?;
        let outcome = |(session, ..): &Self::Write| written.contains(session).then_some(Ok(true));
        Ok(uses.iter().map(outcome).collect())
    }
}

/// The use that replaces the current token of a session by its successor.
pub(super) fn rotation(session: &Session, request: Option<&[u8]>, expire_time: Timestamp, by: SessionUse) -> TokenUse {
    TokenUse {
        counter: session.counter + 1,
        is_used: false,
        rotation_request: request.map(<[u8]>::to_vec),
        rotate_time: by.last_use_time,
        expire_time,
        last_use_time: by.last_use_time,
        ip_address: by.ip_address,
        user_agent: by.user_agent,
    }
}

/// The use that keeps the current token of a session.
pub(super) fn refresh(session: &Session, by: SessionUse) -> TokenUse {
    TokenUse {
        counter: session.counter,
        is_used: true,
        rotation_request: session.rotation_request.clone(),
        rotate_time: session.rotate_time,
        expire_time: session.expire_time,
        last_use_time: by.last_use_time,
        ip_address: by.ip_address,
        user_agent: by.user_agent,
    }
}
