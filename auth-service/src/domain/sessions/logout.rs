//! Logout, and other ways to end one session with one of its tokens.

use base::ids::SessionId;
use db::{Conn, write_tx};

use crate::{
    domain::{
        error::Error,
        feed::{self, Change},
        request_context::RequestContext,
        sessions::{
            ends,
            lifecycle::{Outcome, Sessions},
        },
    },
    model::{Rotation, SessionEnd},
    store,
};

impl Sessions {
    /// Logs out with a refresh token.
    pub(crate) async fn logout_by_refresh_token(
        &self,
        context: &RequestContext,
        refresh_token: &str,
    ) -> Result<(), Error> {
        self.end_by_refresh_token(context, refresh_token, SessionEnd::Logout)
            .await
    }

    /// Ends the session of a refresh token. A token that was just rotated ends it too, and a
    /// session that is already over is not an error. Only an older token still counts as reuse.
    pub(in crate::domain) async fn end_by_refresh_token(
        &self,
        context: &RequestContext,
        token: &str,
        end: SessionEnd,
    ) -> Result<(), Error> {
        let claim = self.refresh_tokens.read(token)?;
        let arrival = self.clock.now();
        let outcome = write_tx!(self.db, |tx| {
            let (user, session) = match self.lock(tx, claim.session_id).await {
                Err(Error::SessionEnded) => {
                    self.end_lost(tx, claim.session_id).await?;
                    return Ok(Outcome::Done(()));
                }
                locked => locked?,
            };
            let now = self.clock.now();
            match session.use_without_rotation(claim.counter, (arrival, now)) {
                Rotation::Keep | Rotation::Rotate | Rotation::Repeat | Rotation::Overlap => {
                    let change = ends::end(tx, context, session.key(), end, now).await?;
                    feed::publish(tx, vec![change], now).await?;
                    Ok(Outcome::Done(()))
                }
                Rotation::Ended => {
                    feed::settle(tx).await?;
                    Ok(Outcome::Done(()))
                }
                Rotation::Expired => {
                    // The user wants to be logged out, so the session ends even if the clock is
                    // wrong and it has not expired.
                    if !self.expire(tx, context, &session).await? {
                        let change = ends::end(tx, context, session.key(), end, now).await?;
                        feed::publish(tx, vec![change], now).await?;
                    }
                    Ok(Outcome::Done(()))
                }
                Rotation::LateReuse if tx.settled(&self.clock).await?.is_none() => {
                    let change = ends::end(tx, context, session.key(), end, now).await?;
                    feed::publish(tx, vec![change], now).await?;
                    Ok(Outcome::Done(()))
                }
                reuse @ (Rotation::Reuse | Rotation::LateReuse) => {
                    self.refuse(tx, context, (&user, &session), reuse, now).await
                }
            }
        });
        outcome?.into_result()
    }

    /// Ends a session whose access token was verified.
    pub(crate) async fn logout(&self, context: &RequestContext, session_id: SessionId) -> Result<(), Error> {
        write_tx!(self.db, |tx| {
            let (_, session) = match self.lock(tx, session_id).await {
                Err(Error::SessionEnded) => return self.end_lost(tx, session_id).await,
                locked => locked?,
            };
            if session.has_ended() {
                return Ok(feed::settle(tx).await?);
            }
            let now = self.clock.now();
            let change = ends::end(tx, context, session.key(), SessionEnd::Logout, now).await?;
            Ok(feed::publish(tx, vec![change], now).await?)
        })
    }

    /// Publishes the end of a session that is not stored, although one of its tokens was verified.
    /// A fail-over may have lost it, and verifiers would go on accepting its access tokens.
    async fn end_lost(&self, tx: &mut Conn, id: SessionId) -> Result<(), Error> {
        let change = Change::SessionRevoked(id);
        if store::session_by_id(tx, id).await?.is_none() && !feed::is_published(tx, &change).await? {
            feed::publish(tx, vec![change], self.clock.now()).await?;
        } else {
            feed::settle(tx).await?;
        }
        Ok(())
    }

    /// Ends the session if it has expired, unless the clock cannot be relied on.
    pub(in crate::domain) async fn end_if_expired(&self, context: &RequestContext, id: SessionId) -> Result<(), Error> {
        write_tx!(self.db, |tx| {
            let (_, session) = match self.lock(tx, id).await {
                Err(Error::SessionEnded) => return Ok(()),
                locked => locked?,
            };
            if self.clock.now() >= session.expire_time {
                self.expire(tx, context, &session).await?;
            }
            Ok(())
        })
    }
}
