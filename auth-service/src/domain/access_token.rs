//! Issues access tokens: JWTs of the profile RFC 9068.

use std::time::Duration;

use secrecy::SecretString;
use shared::{
    clock::{Clock, Timestamp},
    ids::SessionId,
    token::{Claims, FIRST_PARTY_CLIENT_ID},
};
use uuid::Uuid;

use super::{error::Error, key_ring::KeyRing};
use crate::store;

/// A signed access token.
#[derive(Debug)]
pub(crate) struct AccessToken {
    pub(crate) token: SecretString,
    pub(crate) expires_in: Duration,
}

/// Who bears a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bearer<'a> {
    /// A person, in this session.
    Session(SessionId),
    /// The service with this client id.
    Service(&'a str),
}

/// Signs access tokens.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) keys: KeyRing,
    /// `iss`.
    pub(crate) name: String,
    /// `aud`.
    pub(crate) audience: String,
    /// Of people's tokens.
    pub(crate) life: Duration,
    /// Of services' tokens.
    pub(crate) service_life: Duration,
    pub(crate) clock: Clock,
}

impl Issuer {
    /// A token for this user, who holds this.
    pub(crate) fn issue(
        &self,
        user: &store::User,
        holdings: &store::TokenHoldings,
        bearer: Bearer<'_>,
    ) -> Result<AccessToken, Error> {
        let now = self.clock.now();
        let (client_id, sid, life) = match bearer {
            Bearer::Session(id) => (FIRST_PARTY_CLIENT_ID, Some(id), self.life),
            Bearer::Service(client_id) => (client_id, None, self.service_life),
        };
        let claims = Claims {
            iss: self.name.clone(),
            aud: self.audience.clone(),
            sub: user.id,
            exp: seconds(now.plus(life)),
            iat: seconds(now),
            nbf: seconds(now),
            jti: Uuid::new_v4().to_string(),
            client_id: client_id.to_owned(),
            sid,
            ver: user.token_version,
            roles: holdings.roles.clone(),
            preferred_username: user.login.clone(),
            permissions: holdings.direct.clone(),
        };
        let token = self.keys.active().sign(&claims);
        Ok(AccessToken {
            token: token.map_err(|error| Error::Internal(format!("cannot sign: {error}")))?,
            expires_in: life,
        })
    }
}

fn seconds(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.as_seconds()).unwrap_or(0)
}
