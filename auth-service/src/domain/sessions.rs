//! The use cases of sessions: begin, refresh, rotate, end. Each transaction locks the user's row first.

use aws_lc_rs::digest::{SHA256, digest};
use shared::{
    clock::{Clock, Timestamp},
    db::{Conn, Db, write_tx},
    ids::SessionId,
};

use super::{
    Act, Error, Issuer, RefreshTokens, SessionLives, TokenPair,
    access_token::{AccessToken, Bearer},
    authority::Holdings,
    refresh_token::RefreshClaim,
    session::Rotation,
};
use crate::store::{self, Session, SessionEnd, User};

/// The use cases of sessions.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) issuer: Issuer,
    pub(crate) refresh_tokens: RefreshTokens,
    pub(crate) lives: SessionLives,
}

/// What a transaction found. An `Err` would roll back, and the end of a session has to stay.
enum Outcome<T> {
    Done(T),
    Refused(Error),
}

impl Sessions {
    /// Begins a session in the caller's transaction, which has locked the user's row or made it.
    pub(super) async fn begin(
        &self,
        tx: &mut Conn,
        act: &Act,
        user: &User,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let session = self.lives.begin(user.id, &act.origin, now);
        store::session_insert(tx, &session).await?;
        let claim = RefreshClaim {
            session_id: session.id,
            counter: session.counter,
        };
        self.pair(tx, user, claim, session.expire_time, now).await
    }

    /// Replaces the tokens of a live session, whichever of them are out, in the caller's transaction, which has locked the user's
    /// row.
    pub(super) async fn replace_tokens(
        &self,
        tx: &mut Conn,
        user: &User,
        session: &Session,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let expire_time = self.lives.renewed(session, now);
        if !store::session_rotate(tx, session, None, now, expire_time).await? {
            return Err(Error::SessionEnded);
        }
        let claim = RefreshClaim {
            session_id: session.id,
            counter: session.counter + 1,
        };
        self.pair(tx, user, claim, expire_time, now).await
    }

    /// Replaces a refresh token by its successor, once.
    pub(crate) async fn rotate(
        &self,
        act: &Act,
        refresh_token: &str,
        request_id: Option<&str>,
    ) -> Result<TokenPair, Error> {
        let claim = self.refresh_tokens.read(refresh_token)?;
        let request = request_id.map(|id| digest(&SHA256, id.as_bytes()).as_ref().to_vec());
        let outcome = write_tx!(self.db, |tx| {
            let (user, session) = self.lock(tx, claim.session_id).await?;
            // Only now: racers queue for the lock, and the last of them may have waited long.
            let now = self.clock.now();
            let successor = RefreshClaim {
                counter: session.counter + 1,
                ..claim
            };
            let pair = match session.rotation(claim.counter, request.as_deref(), now) {
                Rotation::Rotate => {
                    let expire_time = self.lives.renewed(&session, now);
                    if !store::session_rotate(tx, &session, request.as_deref(), now, expire_time).await? {
                        return Err(Error::RotationOverlap);
                    }
                    self.pair(tx, &user, successor, expire_time, now).await?
                }
                Rotation::Repeat => {
                    let current = RefreshClaim {
                        counter: session.counter,
                        ..claim
                    };
                    self.pair(tx, &user, current, session.expire_time, now).await?
                }
                refused => return self.refuse(tx, &session, refused, now).await,
            };
            Ok(Outcome::Done(pair))
        });
        outcome?.into_result()
    }

    /// A new access token for the current refresh token, which stays.
    pub(crate) async fn refresh_access_token(&self, act: &Act, refresh_token: &str) -> Result<AccessToken, Error> {
        let claim = self.refresh_tokens.read(refresh_token)?;
        let outcome = write_tx!(self.db, |tx| {
            let (user, session) = self.lock(tx, claim.session_id).await?;
            let now = self.clock.now();
            match session.use_without_rotation(claim.counter, now) {
                Rotation::Rotate if now.since(session.rotate_time) >= self.lives.unrotated => {
                    Err(Error::RotationRequired)
                }
                Rotation::Rotate => {
                    if !session.is_used {
                        store::session_mark_used(tx, session.id).await?;
                    }
                    let holdings = Holdings::of(tx, user.id).await?;
                    let bearer = Bearer::Session(session.id);
                    Ok(Outcome::Done(self.issuer.issue(&user, &holdings, bearer)?))
                }
                refused => self.refuse(tx, &session, refused, now).await,
            }
        });
        outcome?.into_result()
    }

    /// Ends the session of a refresh token. Whoever logs out with a token that was just rotated, or of a session that is
    /// over, gets what they want; only an old token is still a reuse.
    pub(crate) async fn logout_by_refresh_token(&self, act: &Act, refresh_token: &str) -> Result<(), Error> {
        let claim = self.refresh_tokens.read(refresh_token)?;
        let outcome = write_tx!(self.db, |tx| {
            let (_, session) = match self.lock(tx, claim.session_id).await {
                Err(Error::SessionEnded) => return Ok(Outcome::Done(())),
                locked => locked?,
            };
            let now = self.clock.now();
            match session.use_without_rotation(claim.counter, now) {
                Rotation::Rotate | Rotation::Repeat | Rotation::Overlap => {
                    store::session_end(tx, session.id, SessionEnd::Logout, now).await?;
                    Ok(Outcome::Done(()))
                }
                Rotation::Expired | Rotation::Ended => Ok(Outcome::Done(())),
                Rotation::Reuse => self.refuse(tx, &session, Rotation::Reuse, now).await,
            }
        });
        outcome?.into_result()
    }

    /// Ends a session whose access token was verified.
    pub(crate) async fn logout(&self, act: &Act, session_id: SessionId) -> Result<(), Error> {
        write_tx!(self.db, |tx| {
            match self.lock(tx, session_id).await {
                Err(Error::SessionEnded) => Ok(()),
                Err(error) => Err(error),
                Ok((_, session)) => {
                    store::session_end(tx, session.id, SessionEnd::Logout, self.clock.now()).await?;
                    Ok(())
                }
            }
        })
    }

    /// The session and its user, whose row is locked. A session that is not there has ended: it was once issued a token.
    async fn lock(&self, tx: &mut Conn, id: SessionId) -> Result<(User, Session), Error> {
        let user_id = store::session_by_id(tx, id).await?.ok_or(Error::SessionEnded)?.user_id;
        let user = store::user_lock(tx, user_id)
            .await?
            .filter(|user| user.is_active)
            .ok_or(Error::SessionEnded)?;
        // Again, since it may have changed before the lock was ours.
        let session = store::session_by_id(tx, id).await?.ok_or(Error::SessionEnded)?;
        Ok((user, session))
    }

    /// Refuses a token that is not current, and ends the session where it was reused.
    async fn refuse<T>(
        &self,
        tx: &mut Conn,
        session: &Session,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Outcome<T>, Error> {
        Err(match rotation {
            Rotation::Reuse => {
                store::session_end(tx, session.id, SessionEnd::RefreshTokenReused, now).await?;
                tracing::warn!(session_id = %session.id, user_id = %session.user_id, "a refresh token was reused; the session has ended");
                return Ok(Outcome::Refused(Error::RefreshTokenReused));
            }
            Rotation::Expired => Error::RefreshTokenExpired,
            Rotation::Ended => Error::SessionEnded,
            Rotation::Rotate | Rotation::Repeat | Rotation::Overlap => Error::RotationOverlap,
        })
    }

    async fn pair(
        &self,
        tx: &mut Conn,
        user: &User,
        claim: RefreshClaim,
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<TokenPair, Error> {
        let holdings = Holdings::of(tx, user.id).await?;
        Ok(TokenPair {
            access: self.issuer.issue(user, &holdings, Bearer::Session(claim.session_id))?,
            refresh_token: self.refresh_tokens.make(claim),
            refresh_expires_in: expire_time.since(now),
        })
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
