//! Uses of refresh tokens. A rotation replaces a token by its successor, once. A refresh issues
//! only an access token.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base::ids::SessionId;
use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        request_context::RequestContext,
        sessions::{
            lifecycle::{Outcome, Sessions},
            lifetimes::TokenPair,
            token_uses,
        },
        tokens::{
            access::{AccessToken, Bearer, RequestedAudience},
            refresh::RefreshClaim,
        },
    },
    model::{Rotation, Session},
    store,
};

/// Precision of the time of a session's last use if nothing else changes.
const LAST_USE_PRECISION: Duration = Duration::from_mins(1);

/// Maximum number of sessions whose refresh tokens may come together in one call.
const MAX_SESSIONS_PER_CALL: usize = 8;

impl Sessions {
    /// Picks the refresh token to use out of several that came in one call. Uses none of them, so
    /// neither a forged token nor an old one does any harm here.
    ///
    /// A neighbouring site can plant a genuine token of its own user, to make others act in that
    /// account. The server cannot tell whose browser it is. So if the tokens belong to different
    /// users, none is used.
    pub(crate) async fn pick_genuine(&self, mut tokens: Vec<String>) -> Result<String, Error> {
        if tokens.len() == 1 {
            // A single token is verified when it is used.
            return tokens.pop().ok_or(Error::RefreshTokenInvalid);
        }
        let mut newest: HashMap<SessionId, (i64, String)> = HashMap::new();
        for token in tokens {
            let Ok(claim) = self.refresh_tokens.read(&token) else {
                continue;
            };
            let known = newest.entry(claim.session_id).or_default();
            if known.1.is_empty() || known.0 < claim.counter {
                *known = (claim.counter, token);
            }
        }
        if newest.len() > MAX_SESSIONS_PER_CALL {
            return Err(Error::RefreshTokenInvalid);
        }
        let mut chosen: Option<(Session, String)> = None;
        for (id, (_, token)) in newest {
            let Some((session, ..)) = self.loader.get(id).await? else {
                continue;
            };
            let is_better =
                |than: &Session| (!session.has_ended(), session.rotate_time) > (!than.has_ended(), than.rotate_time);
            match &chosen {
                Some((other, _)) if other.user_id != session.user_id => return Err(Error::RefreshTokenInvalid),
                Some((other, _)) if !is_better(other) => {}
                _ => chosen = Some((session, token)),
            }
        }
        chosen.map(|(_, token)| token).ok_or(Error::RefreshTokenInvalid)
    }

    /// Replaces a refresh token by its successor, once.
    pub(crate) async fn rotate(
        &self,
        context: &RequestContext,
        refresh_token: &str,
        request_id: Option<&str>,
        audience: &RequestedAudience,
    ) -> Result<TokenPair, Error> {
        let mut is_repeated = false;
        let outcome = async {
            let claim = self.refresh_tokens.read(refresh_token)?;
            let sessions = self.for_audience(audience).await?;
            sessions
                .attempt_rotation(context, claim, request_id, &mut is_repeated)
                .await
        }
        .await;
        counts::refresh("RotateTokens", if is_repeated { "repeated" } else { "ok" }, &outcome);
        outcome
    }

    async fn attempt_rotation(
        &self,
        context: &RequestContext,
        claim: RefreshClaim,
        request_id: Option<&str>,
        is_repeated: &mut bool,
    ) -> Result<TokenPair, Error> {
        let request = request_id.map(|id| digest(&SHA256, id.as_bytes()).as_ref().to_vec());
        let arrival = self.clock.now();
        if let Some(pair) = self.rotate_current(context, claim, request.as_deref()).await? {
            return Ok(pair);
        }
        let outcome = write_tx!(self.db, |tx| {
            let (user, session) = self.lock(tx, claim.session_id).await?;
            // The time is read only now. Racing calls queue for the lock, and the last of them may
            // have waited long.
            let now = self.clock.now();
            let successor = RefreshClaim {
                counter: session.counter + 1,
                ..claim
            };
            let pair = match session.rotation(claim.counter, request.as_deref(), (arrival, now)) {
                Rotation::Rotate => {
                    let expire_time = self.lifetimes.renewed(session.absolute_expire_time, now);
                    let by = context.origin.session_use(now);
                    let rotation = token_uses::rotation(&session, request.as_deref(), expire_time, by);
                    if !store::session_use_token(tx, session.id, session.counter, &rotation).await? {
                        return Err(Error::RotationOverlap);
                    }
                    self.pair(tx, &user, (successor, &session.authentication), expire_time, now)
                        .await?
                }
                Rotation::Repeat => {
                    *is_repeated = true;
                    let current = RefreshClaim {
                        counter: session.counter,
                        ..claim
                    };
                    AuditEvent::new("session.rotate_retry")
                        .target("session", session.id)
                        .concerning(user.id)
                        .record(tx, context, now)
                        .await?;
                    let current = (current, &session.authentication);
                    self.pair(tx, &user, current, session.expire_time, now).await?
                }
                refused => return self.refuse(tx, context, (&user, &session), refused, now).await,
            };
            Ok(Outcome::Done(pair))
        });
        outcome?.into_result()
    }

    /// Rotates the current token of a live session with one read and one update. Returns `None` if
    /// the case is not that simple.
    ///
    /// This takes no lock on the user's row. A change to the user that is published in the meantime
    /// either raises the token version above the one that was read, or ends this session. Both make
    /// the new access token invalid. Rotations and ends of the session run one after the other,
    /// because they update the same row.
    async fn rotate_current(
        &self,
        context: &RequestContext,
        claim: RefreshClaim,
        request: Option<&[u8]>,
    ) -> Result<Option<TokenPair>, Error> {
        let Some((session, user, holdings)) = self.read(claim.session_id).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        if session.rotation(claim.counter, request, (now, now)) != Rotation::Rotate {
            return Ok(None);
        }
        let expire_time = self.lifetimes.renewed(session.absolute_expire_time, now);
        let by = context.origin.session_use(now);
        let rotation = token_uses::rotation(&session, request, expire_time, by);
        if !self.token_uses.write((session.id, session.counter, rotation)).await? {
            return Ok(None);
        }
        let successor = RefreshClaim {
            counter: session.counter + 1,
            ..claim
        };
        let bearer = Bearer::Session(session.id, &session.authentication);
        let access = self.issuer.issue(&user, &holdings, bearer)?;
        Ok(Some(self.pair_with(access, successor, expire_time, now)))
    }

    /// Issues a new access token for the current refresh token, which stays current.
    pub(crate) async fn refresh_access_token(
        &self,
        context: &RequestContext,
        refresh_token: &str,
        audience: &RequestedAudience,
    ) -> Result<AccessToken, Error> {
        let outcome = async {
            let claim = self.refresh_tokens.read(refresh_token)?;
            self.for_audience(audience).await?.attempt_refresh(context, claim).await
        }
        .await;
        counts::refresh("RefreshAccessToken", "ok", &outcome);
        outcome
    }

    async fn attempt_refresh(&self, context: &RequestContext, claim: RefreshClaim) -> Result<AccessToken, Error> {
        let arrival = self.clock.now();
        if let Some(access) = self.refresh_current(context, claim).await? {
            return Ok(access);
        }
        let outcome = write_tx!(self.db, |tx| {
            let (user, session) = self.lock(tx, claim.session_id).await?;
            let now = self.clock.now();
            match session.use_without_rotation(claim.counter, (arrival, now)) {
                Rotation::Keep if now.since(session.rotate_time) >= self.lifetimes.unrotated => {
                    Err(Error::RotationRequired)
                }
                Rotation::Keep => {
                    let refresh = token_uses::refresh(&session, context.origin.session_use(now));
                    if !store::session_use_token(tx, session.id, session.counter, &refresh).await? {
                        return Err(Error::SessionEnded);
                    }
                    let holdings = store::token_holdings(tx, user.id).await?;
                    let bearer = Bearer::Session(session.id, &session.authentication);
                    Ok(Outcome::Done(self.issuer.issue(&user, &holdings, bearer)?))
                }
                refused => self.refuse(tx, context, (&user, &session), refused, now).await,
            }
        });
        outcome?.into_result()
    }

    /// Issues an access token for a session whose token is current. Records the use first, unless a
    /// similar one was recorded a moment ago. Returns `None` if the case is not that simple. Takes
    /// no lock, for the same reason as [`rotate_current`](Self::rotate_current).
    async fn refresh_current(
        &self,
        context: &RequestContext,
        claim: RefreshClaim,
    ) -> Result<Option<AccessToken>, Error> {
        let Some((session, user, holdings)) = self.read(claim.session_id).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        let by = context.origin.session_use(now);
        let is_current = session.use_without_rotation(claim.counter, (now, now)) == Rotation::Keep;
        if !is_current || now.since(session.rotate_time) >= self.lifetimes.unrotated {
            return Ok(None);
        }
        let is_noted = session.is_used
            && now.since(session.last_use_time) < LAST_USE_PRECISION
            && (session.ip_address == by.ip_address && session.user_agent == by.user_agent);
        if !is_noted {
            let refresh = token_uses::refresh(&session, by);
            if !self.token_uses.write((session.id, session.counter, refresh)).await? {
                return Ok(None);
            }
        }
        let bearer = Bearer::Session(session.id, &session.authentication);
        let access = self.issuer.issue(&user, &holdings, bearer)?;
        Ok(Some(access))
    }
}
