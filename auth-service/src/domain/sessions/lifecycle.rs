//! Sessions: how they begin, and the parts that their other use cases share. Each transaction locks
//! the user's row first.

use std::{borrow::Cow, sync::Arc};

use access::token::Verifier;
use base::{
    clock::{Clock, Timestamp},
    ids::SessionId,
};
use db::{Conn, Db, GroupCommit, Loader};
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::{AuditEvent, Records},
        counts,
        error::Error,
        feed::{self, Change},
        mail::{notices::Notice, outbox::Mails},
        request_context::RequestContext,
        sessions::{
            ends,
            known_devices::KnownDevices,
            lifetimes::{SessionLifetimes, TokenPair},
            plain_logins::{PlainLogin, PlainLoginWriter},
            token_uses::{self, TokenUseWriter},
        },
        tokens::{
            access::{AccessToken, Bearer, Issuer, RequestedAudience},
            refresh::{RefreshClaim, RefreshTokens},
        },
    },
    ids::DeviceId,
    model::{AuthMethods, Authentication, Rotation, Session, SessionEnd, TokenHoldings, User},
    store::{self, NewSession, SessionWithHoldings},
};

/// The use cases of sessions.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) issuer: Issuer,
    pub(crate) refresh_tokens: RefreshTokens,
    pub(crate) devices: KnownDevices,
    pub(crate) verifier: Verifier,
    pub(crate) lifetimes: SessionLifetimes,
    /// Loader of sessions with their users and what they hold.
    pub(crate) loader: Loader<SessionId, SessionWithHoldings>,
    pub(crate) token_uses: GroupCommit<TokenUseWriter>,
    pub(crate) plain_logins: GroupCommit<PlainLoginWriter>,
    pub(crate) mails: Arc<Mails>,
}

/// A session that has begun.
#[derive(Debug)]
pub(in crate::domain) struct StartedSession {
    pub(in crate::domain) session_id: SessionId,
    pub(in crate::domain) tokens: TokenPair,
    pub(in crate::domain) device_token: SecretString,
    /// Changes for the caller to publish: the ends of the sessions that made room.
    pub(in crate::domain) changes: Vec<Change>,
}

/// Outcome of a transaction that is committed. A refusal is not an `Err`, which would roll back the
/// end of the session.
pub(super) enum Outcome<T> {
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
    /// Returns these use cases with an issuer of access tokens for the requested audience.
    pub(crate) async fn for_audience(&self, audience: &RequestedAudience) -> Result<Cow<'_, Self>, Error> {
        Ok(match self.issuer.for_audience(&self.db, audience).await? {
            Cow::Borrowed(_) => Cow::Borrowed(self),
            Cow::Owned(issuer) => Cow::Owned(Self { issuer, ..self.clone() }),
        })
    }

    /// Returns these use cases with an issuer of access tokens that have the same audience as the
    /// actor's token.
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

    /// Begins a session in the caller's transaction, which has locked or created the user's row.
    /// `device` is from a genuine device token of this user, who has just proved who they are by
    /// these methods.
    pub(in crate::domain) async fn begin(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        device: Option<DeviceId>,
        (methods, now): (AuthMethods, Timestamp),
    ) -> Result<StartedSession, Error> {
        let device = device.unwrap_or_else(DeviceId::generate);
        let changes = self.make_room(tx, context, user.id, device, now).await?;
        let authentication = Authentication::new(now, methods);
        let session = self.lifetimes.begin(user.id, device, &context.origin, &authentication);
        let holdings = store::session_insert(tx, &session).await?;
        self.started((user, &holdings), (&session, &authentication), device, changes)
    }

    /// Does a login that only begins a session, together with others that come at the same time.
    /// Returns the user as of the login and the session, or `None` if the caller must do the login
    /// in a transaction of its own.
    ///
    /// The tokens are made after the commit. A change to the user that is published in the meantime
    /// either raises the token version above the one in the access token, or ends this session.
    pub(in crate::domain) async fn begin_plain(
        &self,
        login: PlainLogin,
    ) -> Result<Option<(User, StartedSession)>, Error> {
        let device = login.device;
        let Some(begun) = self.plain_logins.write(login).await? else {
            return Ok(None);
        };
        let started = self.started(
            (&begun.user, &begun.holdings),
            (&begun.session, &begun.authentication),
            device,
            Vec::new(),
        )?;
        Ok(Some((begun.user, started)))
    }

    /// Makes the tokens of a session that has just begun.
    fn started(
        &self,
        (user, holdings): (&User, &TokenHoldings),
        (session, authentication): (&NewSession, &Authentication),
        device: DeviceId,
        changes: Vec<Change>,
    ) -> Result<StartedSession, Error> {
        counts::session_begun();
        let claim = RefreshClaim {
            session_id: session.id,
            counter: session.counter,
        };
        let access = self
            .issuer
            .issue(user, holdings, Bearer::Session(session.id, authentication))?;
        Ok(StartedSession {
            session_id: session.id,
            tokens: self.pair_with(access, claim, session.expire_time, session.create_time),
            device_token: self.devices.tokens.make(device, user.id),
            changes,
        })
    }

    /// Replaces the tokens of a live session, whatever the current ones are. Runs in the caller's
    /// transaction, which has locked the user's row.
    pub(in crate::domain) async fn replace_tokens(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        session: &Session,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let expire_time = self.lifetimes.renewed(session.absolute_expire_time, now);
        let rotation = token_uses::rotation(session, None, expire_time, context.origin.session_use(now));
        if !store::session_use_token(tx, session.id, session.counter, &rotation).await? {
            return Err(Error::SessionEnded);
        }
        let claim = RefreshClaim {
            session_id: session.id,
            counter: session.counter + 1,
        };
        self.pair(tx, user, (claim, &session.authentication), expire_time, now)
            .await
    }

    /// Updates the metric of sessions that have not ended.
    pub(crate) async fn report(&self) -> Result<(), Error> {
        counts::sessions(store::sessions_count_unended(&mut self.db.scan().await?).await?);
        Ok(())
    }

    /// Reads the session with its user and what they hold, all from one moment. Returns `None` if
    /// the user is not active.
    pub(super) async fn read(&self, id: SessionId) -> Result<Option<SessionWithHoldings>, Error> {
        let found = self.loader.get(id).await?;
        Ok(found.filter(|(_, user, _)| user.is_active))
    }

    /// Locks the user's row and the session's row, and returns both. A session that is not stored
    /// has ended, because a token was once issued for it.
    pub(in crate::domain) async fn lock(&self, tx: &mut Conn, id: SessionId) -> Result<(User, Session), Error> {
        let user_id = store::session_by_id(tx, id).await?.ok_or(Error::SessionEnded)?.user_id;
        let user = store::user_lock(tx, user_id)
            .await?
            .filter(|user| user.is_active)
            .ok_or(Error::SessionEnded)?;
        // Read again, because it may have changed before the lock was taken. Its own row is locked
        // as well, because a rotation may do without the lock of the user's row.
        let session = store::session_lock(tx, id).await?.ok_or(Error::SessionEnded)?;
        Ok((user, session))
    }

    /// Refuses a token that is not current. Ends the session if the token was reused or has
    /// expired. A reuse is reported to the user by mail, only once, because it ends the session.
    pub(super) async fn refuse<T>(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        (user, session): (&User, &Session),
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Outcome<T>, Error> {
        let is_reuse = match rotation {
            Rotation::Reuse => true,
            // A clock that may be wrong does not prove theft.
            Rotation::LateReuse => tx.settled(&self.clock).await?.is_some(),
            _ => false,
        };
        if is_reuse {
            let change = ends::end(tx, context, session.key(), SessionEnd::RefreshTokenReused, now).await?;
            let notice = Notice::RefreshTokenReused;
            self.mails.post_notice(tx, context, user, notice, now).await?;
            feed::publish(tx, vec![change], now).await?;
            tracing::warn!(session_id = %session.id, user_id = %session.user_id, "a refresh token was reused, so the \
                session was ended");
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

    /// Ends a session that has expired, so that it stays expired if the clock is set back. Does
    /// nothing while the clock cannot be relied on. Returns whether the session has ended, now or
    /// before.
    pub(super) async fn expire(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        session: &Session,
    ) -> Result<bool, Error> {
        if session.has_ended() {
            feed::settle(tx).await?;
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

    /// Makes the tokens of a session.
    pub(super) async fn pair(
        &self,
        tx: &mut Conn,
        user: &User,
        (claim, authentication): (RefreshClaim, &Authentication),
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let holdings = store::token_holdings(tx, user.id).await?;
        let bearer = Bearer::Session(claim.session_id, authentication);
        let access = self.issuer.issue(user, &holdings, bearer)?;
        Ok(self.pair_with(access, claim, expire_time, now))
    }

    /// Makes the tokens of a session from an access token and the claim of its refresh token.
    pub(super) fn pair_with(
        &self,
        access: AccessToken,
        claim: RefreshClaim,
        expire_time: Timestamp,
        now: Timestamp,
    ) -> TokenPair {
        TokenPair {
            access,
            refresh_token: self.refresh_tokens.make(claim),
            refresh_expires_in: expire_time.since(now),
        }
    }
}

impl<T> Outcome<T> {
    pub(super) fn into_result(self) -> Result<T, Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused(error) => Err(error),
        }
    }
}
