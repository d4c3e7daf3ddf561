//! Introspection (RFC 7662) and revocation (RFC 7009) of refresh tokens and access tokens.

use access::token::{Acr, FIRST_PARTY_CLIENT_ID, Principal};
use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed,
        request_context::RequestContext,
        sessions::{ends, lifecycle::Sessions, revocation},
        tokens::refresh::RefreshClaim,
    },
    model::{AuthMethods, Authentication, Session, SessionEnd, TokenState, User},
    store,
};

/// A token that can be used now.
#[derive(Debug)]
pub(crate) struct Introspection {
    /// Time of issue; `None` for a refresh token, which does not contain it.
    pub(crate) issue_time: Option<Timestamp>,
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) client_id: String,
    /// Session of the token; `None` for the token of a service.
    pub(crate) session_id: Option<SessionId>,
    pub(crate) roles: Vec<String>,
    /// Names of the permissions that are granted directly.
    pub(crate) permissions: Vec<String>,
    pub(crate) expire_time: Timestamp,
    /// Services that accept the token, or the deployment. Empty for a refresh token.
    pub(crate) audiences: Vec<String>,
    /// Time and methods of the login; `None` for a service, and for a token that does not say them.
    pub(crate) authentication: Option<Authentication>,
}

impl Sessions {
    /// Returns the state of the token by what the database says now, or `None` if it cannot be
    /// used. Does not use up the token. Ends only a session that has expired, so that it stays
    /// expired if the clock is set back.
    pub(crate) async fn introspect(&self, token: &str, caller: &Principal) -> Result<Option<Introspection>, Error> {
        let refresh = self.refresh_tokens.read(token).ok();
        let access = match refresh {
            Some(_) => None,
            None => self.verifier.verify(token).ok(),
        };
        // A service asks whether to accept a token. A token for another service is not active to it
        // (RFC 7662, section 4).
        let access = access.filter(|principal| {
            let is_for_caller = |name: &String| name == caller.client_id() || *name == self.issuer.audience;
            !caller.is_service() || principal.audiences().iter().any(is_for_caller)
        });
        if refresh.is_none() && access.is_none() {
            return Ok(None);
        }
        let mut snapshot = self.db.snapshot().await?;
        let now = self.clock.now();
        let session = match refresh {
            Some(claim) => store::session_by_id(snapshot.conn(), claim.session_id).await?,
            None => None,
        };
        let found = match (refresh, access) {
            (Some(claim), _) => introspect_refresh(snapshot.conn(), claim, session.as_ref(), now).await,
            (None, Some(principal)) => introspect_access(snapshot.conn(), &principal, now).await,
            (None, None) => Ok(None),
        };
        snapshot.end().await;
        if let Some(session) = session.filter(|session| !session.has_ended() && now >= session.expire_time) {
            self.end_if_expired(&RequestContext::itself(), session.id).await?;
        }
        Ok(found?)
    }

    /// Ends the session of the token. A token without a live session is not an error, because there
    /// is nothing left to revoke.
    pub(crate) async fn revoke_token(&self, context: &RequestContext, token: &str) -> Result<(), Error> {
        if self.refresh_tokens.read(token).is_ok() {
            return self.end_by_refresh_token(context, token, SessionEnd::Revoked).await;
        }
        let Ok(principal) = self.verifier.verify(token) else {
            return Ok(());
        };
        if principal.wanted_audience().is_some() {
            // A service that was sent this token must not end the session with it.
            return Err(Error::AudienceRequired);
        }
        let Some(session_id) = principal.session_id() else {
            return self.revoke_service_tokens(context, &principal).await;
        };
        write_tx!(self.db, |tx| {
            let (user, session) = match self.lock(tx, session_id).await {
                Err(Error::SessionEnded) => return Ok(feed::settle(tx).await?),
                locked => locked?,
            };
            // A token that is no longer accepted cannot log the user out.
            if session.has_ended() || principal.token_version() < user.token_version {
                return Ok(feed::settle(tx).await?);
            }
            let now = self.clock.now();
            let change = ends::end(tx, context, session.key(), SessionEnd::Revoked, now).await?;
            Ok(feed::publish(tx, vec![change], now).await?)
        })
    }

    /// Revokes all tokens of a service. They belong to no session, so one cannot be revoked without
    /// the others.
    pub(crate) async fn revoke_service_tokens(
        &self,
        context: &RequestContext,
        principal: &Principal,
    ) -> Result<(), Error> {
        let user_id = principal.user_id();
        write_tx!(self.db, |tx| {
            let user = store::user_lock(tx, user_id).await?;
            if user.is_none_or(|user| principal.token_version() < user.token_version) {
                return Ok(feed::settle(tx).await?);
            }
            let now = self.clock.now();
            let (_, stale) = revocation::make_stale(tx, user_id).await?;
            AuditEvent::new("service_account.revoke_tokens")
                .target("service_account", principal.client_id())
                .concerning(user_id)
                .record(tx, context, now)
                .await?;
            Ok(feed::publish(tx, vec![stale], now).await?)
        })
    }
}

async fn introspect_refresh(
    conn: &mut Conn,
    claim: RefreshClaim,
    session: Option<&Session>,
    now: Timestamp,
) -> db::Result<Option<Introspection>> {
    let is_current = |session: &&Session| session.token_state(claim.counter, (now, now)) == TokenState::Current;
    let Some(session) = session.filter(is_current) else {
        return Ok(None);
    };
    let Some(user) = active_user(conn, session.user_id).await? else {
        return Ok(None);
    };
    let holdings = store::holdings(conn, user.id).await?;
    Ok(Some(Introspection {
        issue_time: None,
        user_id: user.id,
        login: user.login,
        client_id: FIRST_PARTY_CLIENT_ID.to_owned(),
        session_id: Some(session.id),
        roles: holdings.roles,
        permissions: holdings.direct,
        expire_time: session.expire_time,
        audiences: Vec::new(),
        authentication: Some(session.authentication.clone()),
    }))
}

async fn introspect_access(
    conn: &mut Conn,
    principal: &Principal,
    now: Timestamp,
) -> db::Result<Option<Introspection>> {
    let Some(user) = active_user(conn, principal.user_id()).await? else {
        return Ok(None);
    };
    if principal.token_version() < user.token_version {
        return Ok(None);
    }
    if let Some(id) = principal.session_id() {
        let session = store::session_by_id(conn, id).await?;
        if session.is_none_or(|session| session.has_ended() || now >= session.expire_time) {
            return Ok(None);
        }
    }
    Ok(Some(Introspection {
        issue_time: Some(principal.issued_at()),
        user_id: user.id,
        login: user.login,
        client_id: principal.client_id().to_owned(),
        session_id: principal.session_id(),
        roles: principal.roles().to_vec(),
        permissions: principal.permissions().to_vec(),
        expire_time: principal.expires_at(),
        audiences: principal.audiences().to_vec(),
        authentication: principal.auth_time().map(|time| Authentication {
            time,
            methods: AuthMethods::stored(principal.auth_methods().join(" ")),
            acr: principal.acr().unwrap_or(Acr::OneFactor),
        }),
    }))
}

async fn active_user(conn: &mut Conn, id: UserId) -> db::Result<Option<User>> {
    Ok(store::user_by_id(conn, id).await?.filter(|user| user.is_active))
}
