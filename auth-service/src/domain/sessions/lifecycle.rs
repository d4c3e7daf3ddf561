//! The use cases of sessions: begin, refresh, rotate, end. Each transaction locks the user's row first.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use access::token::Verifier;
use aws_lc_rs::digest::{SHA256, digest};
use base::{
    clock::{Clock, Timestamp},
    ids::SessionId,
};
use db::{Conn, Db, Loader, write_tx};
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::{AuditEvent, Records},
        counts,
        error::Error,
        feed::{self, Change},
        request_context::RequestContext,
        sessions::{
            ends,
            rules::{Rotation, SessionLives, TokenPair},
        },
        tokens::{
            access::{AccessToken, Bearer, Issuer, RequestedAudience},
            device::DeviceTokens,
            refresh::{RefreshClaim, RefreshTokens},
        },
    },
    ids::DeviceId,
    store::{self, Session, SessionEnd, SessionWithHoldings, User},
};

/// How exact the time of a session's last use is where nothing else changes.
const LAST_USE_PRECISION: Duration = Duration::from_mins(1);

/// Sessions whose refresh tokens may come together in one call.
const MAX_SESSIONS_TOLD_APART: usize = 8;

/// The use cases of sessions.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) issuer: Issuer,
    pub(crate) refresh_tokens: RefreshTokens,
    pub(crate) device_tokens: DeviceTokens,
    pub(crate) verifier: Verifier,
    pub(crate) lives: SessionLives,
    /// Sessions with their users and what they hold.
    pub(crate) live: Loader<SessionId, SessionWithHoldings>,
    /// Live sessions of a user, at most.
    pub(crate) max_per_user: usize,
}

/// A session that has begun.
#[derive(Debug)]
pub(in crate::domain) struct Begun {
    pub(in crate::domain) session_id: SessionId,
    pub(in crate::domain) tokens: TokenPair,
    pub(in crate::domain) device_token: SecretString,
    /// What the caller publishes: the ends of the sessions that made room.
    pub(in crate::domain) changes: Vec<Change>,
}

/// What a transaction found. An `Err` would roll back, and the end of a session has to stay.
enum Outcome<T> {
    Done(T),
    Refused(Error),
}

impl Records for Sessions {
    fn db(&self) -> &Db {
        &self.db
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Sessions {
    /// Returns these sessions with an issuer of access tokens for the requested audience.
    pub(crate) async fn for_audience(&self, audience: &RequestedAudience) -> Result<Cow<'_, Self>, Error> {
        Ok(match self.issuer.for_audience(&self.db, audience).await? {
            Cow::Borrowed(_) => Cow::Borrowed(self),
            Cow::Owned(issuer) => Cow::Owned(Self { issuer, ..self.clone() }),
        })
    }

    /// Returns these sessions with an issuer of access tokens that reach as far as the one that the actor has used.
    pub(in crate::domain) fn for_audience_of(&self, context: &RequestContext) -> Cow<'_, Self> {
        match context.principal().map(|principal| principal.audiences()) {
            Some([audience]) if *audience != self.issuer.audience => {
                let issuer = Issuer {
                    audience: audience.clone(),
                    ..self.issuer.clone()
                };
                Cow::Owned(Self { issuer, ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Begins a session in the caller's transaction, which has locked the user's row or made it. `device` has a genuine token of
    /// this user's.
    pub(in crate::domain) async fn begin(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        device: Option<DeviceId>,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        let device = device.unwrap_or_else(DeviceId::generate);
        let changes = self.make_room(tx, context, user.id, device, now).await?;
        let session = self.lives.begin(user.id, device, &context.origin, now);
        let holdings = store::session_insert(tx, &session).await?;
        counts::session_begun();
        let claim = RefreshClaim {
            session_id: session.id,
            counter: session.counter,
        };
        let access = self.issuer.issue(user, &holdings, Bearer::Session(session.id))?;
        Ok(Begun {
            session_id: session.id,
            tokens: self.pair_with(access, claim, session.expire_time, now),
            device_token: self.device_tokens.make(device, user.id),
            changes,
        })
    }

    /// Replaces the tokens of a live session, whichever of them are out, in the caller's transaction, which has locked the user's
    /// row.
    pub(in crate::domain) async fn replace_tokens(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        session: &Session,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let expire_time = self.lives.renewed(session, now);
        if !store::session_rotate(tx, session, None, expire_time, &context.origin.session_use(now)).await? {
            return Err(Error::SessionEnded);
        }
        let claim = RefreshClaim {
            session_id: session.id,
            counter: session.counter + 1,
        };
        self.pair(tx, user, claim, expire_time, now).await
    }

    /// Picks the refresh token to use out of several that came together. Uses none of them: neither
    /// a forged token nor an old one does any harm here.
    ///
    /// A neighbouring site can plant a genuine token of its own user, to have others act in that
    /// account. Nothing tells whose browser it is, so of the tokens of different users none is
    /// used.
    pub(crate) async fn genuine_of(&self, mut tokens: Vec<String>) -> Result<String, Error> {
        if tokens.len() == 1 {
            // Its use verifies it in any case.
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
        if newest.len() > MAX_SESSIONS_TOLD_APART {
            return Err(Error::RefreshTokenInvalid);
        }
        let mut chosen: Option<(Session, String)> = None;
        for (id, (_, token)) in newest {
            let Some((session, ..)) = self.live.get(id).await? else {
                continue;
            };
            let is_better = |than: &Session| {
                (session.end_time.is_none(), session.rotate_time) > (than.end_time.is_none(), than.rotate_time)
            };
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
            // Only now: racers queue for the lock, and the last of them may have waited long.
            let now = self.clock.now();
            let successor = RefreshClaim {
                counter: session.counter + 1,
                ..claim
            };
            let pair = match session.rotation(claim.counter, request.as_deref(), (arrival, now)) {
                Rotation::Rotate => {
                    let expire_time = self.lives.renewed(&session, now);
                    let by = context.origin.session_use(now);
                    if !store::session_rotate(tx, &session, request.as_deref(), expire_time, &by).await? {
                        return Err(Error::RotationOverlap);
                    }
                    self.pair(tx, &user, successor, expire_time, now).await?
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
                    self.pair(tx, &user, current, session.expire_time, now).await?
                }
                refused => return self.refuse(tx, context, &session, refused, now).await,
            };
            Ok(Outcome::Done(pair))
        });
        outcome?.into_result()
    }

    /// Rotates the current token of a live session by one statement beside the one that reads it; `None` where it is not that simple.
    ///
    /// It takes no lock on the user's row. What is published of the user meanwhile has another token version than the one that was read,
    /// or ends this session, and both make the new access token worthless; and the session's row takes one rotation or end after the other.
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
        let expire_time = self.lives.renewed(&session, now);
        let by = context.origin.session_use(now);
        let mut conn = self.db.write().await?;
        if !store::session_rotate(&mut conn, &session, request, expire_time, &by).await? {
            return Ok(None);
        }
        drop(conn);
        let successor = RefreshClaim {
            counter: session.counter + 1,
            ..claim
        };
        let access = self.issuer.issue(&user, &holdings, Bearer::Session(session.id))?;
        Ok(Some(self.pair_with(access, successor, expire_time, now)))
    }

    /// The session with its user and what they hold, all as of one moment; `None` where the user is not active.
    async fn read(&self, id: SessionId) -> Result<Option<SessionWithHoldings>, Error> {
        let found = self.live.get(id).await?;
        Ok(found.filter(|(_, user, _)| user.is_active))
    }

    /// A new access token for the current refresh token, which stays.
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

    /// Notes how many sessions have not ended.
    pub(crate) async fn report(&self) -> Result<(), Error> {
        counts::sessions(store::sessions_count_unended(&mut self.db.scan().await?).await?);
        Ok(())
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
                Rotation::Rotate if now.since(session.rotate_time) >= self.lives.unrotated => {
                    Err(Error::RotationRequired)
                }
                Rotation::Rotate => {
                    if !store::session_record_use(tx, session.id, &context.origin.session_use(now)).await? {
                        return Err(Error::SessionEnded);
                    }
                    let holdings = store::token_holdings(tx, user.id).await?;
                    let bearer = Bearer::Session(session.id);
                    Ok(Outcome::Done(self.issuer.issue(&user, &holdings, bearer)?))
                }
                refused => self.refuse(tx, context, &session, refused, now).await,
            }
        });
        outcome?.into_result()
    }

    /// The same for a session that has noted a use like this one a moment ago, which takes no more than a look; `None` where it is not that
    /// simple. It takes no lock, for the reason that [`rotate_current`](Self::rotate_current) takes none.
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
        let is_noted = session.is_used
            && now.since(session.last_use_time) < LAST_USE_PRECISION
            && (session.ip_address == by.ip_address && session.user_agent == by.user_agent);
        let is_current = session.use_without_rotation(claim.counter, (now, now)) == Rotation::Rotate;
        if !is_noted || !is_current || now.since(session.rotate_time) >= self.lives.unrotated {
            return Ok(None);
        }
        let access = self.issuer.issue(&user, &holdings, Bearer::Session(session.id))?;
        Ok(Some(access))
    }

    /// Logs out by a refresh token.
    pub(crate) async fn logout_by_refresh_token(
        &self,
        context: &RequestContext,
        refresh_token: &str,
    ) -> Result<(), Error> {
        self.end_by_refresh_token(context, refresh_token, SessionEnd::Logout)
            .await
    }

    /// Ends the session of a refresh token. Whoever brings a token that was just rotated, or of a session that is over, gets what
    /// they want; only an old token is still a reuse.
    pub(in crate::domain) async fn end_by_refresh_token(
        &self,
        context: &RequestContext,
        token: &str,
        end: SessionEnd,
    ) -> Result<(), Error> {
        let claim = self.refresh_tokens.read(token)?;
        let arrival = self.clock.now();
        let outcome = write_tx!(self.db, |tx| {
            let (_, session) = match self.lock(tx, claim.session_id).await {
                Err(Error::SessionEnded) => {
                    self.end_lost(tx, claim.session_id).await?;
                    return Ok(Outcome::Done(()));
                }
                locked => locked?,
            };
            let now = self.clock.now();
            match session.use_without_rotation(claim.counter, (arrival, now)) {
                Rotation::Rotate | Rotation::Repeat | Rotation::Overlap => {
                    let change = ends::end(tx, context, session.key(), end, now).await?;
                    feed::publish(tx, vec![change], now).await?;
                    Ok(Outcome::Done(()))
                }
                Rotation::Ended => Ok(Outcome::Done(())),
                Rotation::Expired => {
                    // Out is out, also if the clock is wrong and the session would have lived on.
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
                reuse @ (Rotation::Reuse | Rotation::LateReuse) => self.refuse(tx, context, &session, reuse, now).await,
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
            if session.end_time.is_none() {
                let now = self.clock.now();
                let change = ends::end(tx, context, session.key(), SessionEnd::Logout, now).await?;
                feed::publish(tx, vec![change], now).await?;
            }
            Ok(())
        })
    }

    /// Makes the end of a session known that is not there, though one of its tokens was verified: a fail-over may have lost it, and
    /// verifiers would go on accepting its access tokens.
    async fn end_lost(&self, tx: &mut Conn, id: SessionId) -> Result<(), Error> {
        let change = Change::SessionRevoked(id);
        if store::session_by_id(tx, id).await?.is_none() && !feed::is_published(tx, &change).await? {
            feed::publish(tx, vec![change], self.clock.now()).await?;
        }
        Ok(())
    }

    /// Ends the session if it has expired, as soon as the clock can be relied on.
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

    /// The session and its user, whose row is locked. A session that is not there has ended: it was once issued a token.
    pub(in crate::domain) async fn lock(&self, tx: &mut Conn, id: SessionId) -> Result<(User, Session), Error> {
        let user_id = store::session_by_id(tx, id).await?.ok_or(Error::SessionEnded)?.user_id;
        let user = store::user_lock(tx, user_id)
            .await?
            .filter(|user| user.is_active)
            .ok_or(Error::SessionEnded)?;
        // Again, since it may have changed before the lock was ours; and locked, since a rotation may go without the user's row.
        let session = store::session_lock(tx, id).await?.ok_or(Error::SessionEnded)?;
        Ok((user, session))
    }

    /// Refuses a token that is not current. Ends the session if the token was reused or has expired.
    async fn refuse<T>(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        session: &Session,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Outcome<T>, Error> {
        let is_reuse = match rotation {
            Rotation::Reuse => true,
            // By a clock that may be wrong, nobody is called a thief.
            Rotation::LateReuse => tx.settled(&self.clock).await?.is_some(),
            _ => false,
        };
        if is_reuse {
            let change = ends::end(tx, context, session.key(), SessionEnd::RefreshTokenReused, now).await?;
            feed::publish(tx, vec![change], now).await?;
            tracing::warn!(session_id = %session.id, user_id = %session.user_id, "a refresh token was reused, so the session was ended");
            return Ok(Outcome::Refused(Error::RefreshTokenReused));
        }
        match rotation {
            Rotation::Expired => {
                self.expire(tx, context, session).await?;
                Ok(Outcome::Refused(Error::RefreshTokenExpired))
            }
            Rotation::Ended => Err(Error::SessionEnded),
            _ => {
                AuditEvent::new("session.rotate_overlap")
                    .target("session", session.id)
                    .concerning(session.user_id)
                    .refused("ROTATION_OVERLAP")
                    .record(tx, context, now)
                    .await?;
                Ok(Outcome::Refused(Error::RotationOverlap))
            }
        }
    }

    /// Ends a session that has expired for good, so that it stays over when the clock is set back. Waits
    /// until the clock can be relied on. Says whether the session has ended, now or before.
    async fn expire(&self, tx: &mut Conn, context: &RequestContext, session: &Session) -> Result<bool, Error> {
        if session.end_time.is_some() {
            return Ok(true);
        }
        let settled = tx.settled(&self.clock).await?;
        let Some(settled) = settled.filter(|settled| settled.past() >= session.expire_time) else {
            return Ok(false);
        };
        let now = settled.now();
        let change = ends::end(tx, context, session.key(), SessionEnd::Expired, now).await?;
        feed::publish(tx, vec![change], now).await?;
        Ok(true)
    }

    async fn pair(
        &self,
        tx: &mut Conn,
        user: &User,
        claim: RefreshClaim,
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let holdings = store::token_holdings(tx, user.id).await?;
        let access = self.issuer.issue(user, &holdings, Bearer::Session(claim.session_id))?;
        Ok(self.pair_with(access, claim, expire_time, now))
    }

    fn pair_with(&self, access: AccessToken, claim: RefreshClaim, expire_time: Timestamp, now: Timestamp) -> TokenPair {
        TokenPair {
            access,
            refresh_token: self.refresh_tokens.make(claim),
            refresh_expires_in: expire_time.since(now),
        }
    }
}

impl<T> Outcome<T> {
    fn into_result(self) -> Result<T, Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused(error) => Err(error),
        }
    }
}
