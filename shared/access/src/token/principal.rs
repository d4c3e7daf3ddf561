//! Principal: an authenticated caller.

use std::{sync::OnceLock, time::Duration};

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};

use super::{Acr, Claims, FIRST_PARTY_CLIENT_ID};

/// Caller whose access token has been verified. Only [`Verifier`](super::Verifier) creates one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user_id: UserId,
    session_id: Option<SessionId>,
    client_id: String,
    audiences: Vec<String>,
    /// Audience that a token for this service only would have, or `None` if this token is one.
    wanted_audience: Option<String>,
    login: String,
    roles: Vec<String>,
    permissions: Vec<String>,
    token_version: i64,
    key_id: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    /// Time of the login, its methods, and the context class that they amount to.
    auth_time: Option<Timestamp>,
    auth_methods: Vec<String>,
    acr: Option<Acr>,
    /// The first acceptance of the token.
    accepted: OnceLock<Acceptance>,
}

/// The first acceptance of a token, by the monotonic clock. The wall clock alone is not enough: it
/// may be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acceptance {
    time: Duration,
    /// End of the token's life.
    expiry: Duration,
    /// Age of the login at this acceptance.
    auth_age: Duration,
}

impl Principal {
    pub(super) fn new(
        claims: Claims,
        wanted_audience: Option<&str>,
        key_id: &str,
        (issued_at, expires_at): (Timestamp, Timestamp),
        auth_time: Option<Timestamp>,
    ) -> Self {
        Self {
            audiences: claims.aud.names().to_vec(),
            wanted_audience: wanted_audience.map(str::to_owned),
            user_id: claims.sub,
            session_id: claims.sid,
            client_id: claims.client_id,
            login: claims.preferred_username,
            roles: claims.roles,
            permissions: claims.permissions,
            token_version: claims.ver,
            key_id: key_id.to_owned(),
            issued_at,
            expires_at,
            auth_time,
            auth_methods: claims.amr,
            // A class that this version does not know satisfies no requirement.
            acr: claims.acr.and_then(|acr| acr.parse().ok()),
            accepted: OnceLock::new(),
        }
    }

    /// Returns the end of the token's life by the monotonic clock, or `None` until the token is
    /// first accepted. The wall clock alone is not enough: it may be set back to a time at which
    /// the token was valid, after the record of its revocation has been dropped.
    pub(super) fn monotonic_expiry(&self) -> Option<Duration> {
        self.accepted.get().map(|accepted| accepted.expiry)
    }

    /// Fixes the end of the token's life, which is `left` from now on, and the age of its login.
    /// Only the first call has an effect.
    pub(super) fn note_acceptance(&self, now: Timestamp, monotonic: Duration, left: Duration) {
        let _ = self.accepted.set(Acceptance {
            time: monotonic,
            expiry: monotonic.saturating_add(left),
            auth_age: self.auth_time.map_or(Duration::ZERO, |time| now.since(time)),
        });
    }

    /// Returns the age of the login at this time by both clocks. `None` for a service, and for a
    /// token that does not say when its user logged in. A wall clock that is set back makes no
    /// login younger.
    pub(crate) fn login_age(&self, now: Timestamp, monotonic: Duration) -> Option<Duration> {
        let wall_age = now.since(self.auth_time?);
        let monotonic_age = self.accepted.get().map_or(Duration::ZERO, |accepted| {
            accepted.auth_age + monotonic.saturating_sub(accepted.time)
        });
        Some(wall_age.max(monotonic_age))
    }

    /// Returns the id of the user, or of the user that represents a service.
    pub const fn user_id(&self) -> UserId {
        self.user_id
    }

    /// Returns the session that the token belongs to. A person always has one.
    pub const fn session_id(&self) -> Option<SessionId> {
        self.session_id
    }

    /// Returns [`FIRST_PARTY_CLIENT_ID`] for a person, or a service's own client id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the names of the services that the token is for, or the name of the deployment.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Returns the audience that a token for this service only would have, or `None` if this token
    /// is one.
    pub fn wanted_audience(&self) -> Option<&str> {
        self.wanted_audience.as_deref()
    }

    /// Returns whether the caller is a service that acts in its own name, rather than a person.
    pub fn is_service(&self) -> bool {
        self.client_id != FIRST_PARTY_CLIENT_ID
    }

    /// Returns the user's login when the token was issued.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Returns the user's roles when the token was issued.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Returns whether the principal has the role.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role == name)
    }

    /// Returns the permissions that the user held directly when the token was issued, as
    /// `resource:action`.
    pub fn permissions(&self) -> &[String] {
        &self.permissions
    }

    /// Returns the user's token version when the token was issued, counted from 0.
    pub const fn token_version(&self) -> i64 {
        self.token_version
    }

    /// Returns the time at which the user last proved who they are. `None` for a service, and for a
    /// token from a version of auth-service that did not record it.
    pub const fn auth_time(&self) -> Option<Timestamp> {
        self.auth_time
    }

    /// Returns the methods by which the user did so (RFC 8176).
    pub fn auth_methods(&self) -> &[String] {
        &self.auth_methods
    }

    /// Returns the authentication context class of the login, if it is a known one.
    pub const fn acr(&self) -> Option<Acr> {
        self.acr
    }

    /// Returns the id of the key that signed the token.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the time at which the token was issued.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Returns the time at which the token expires, without any leeway.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}
