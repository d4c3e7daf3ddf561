//! Issues access tokens: JWTs of the profile RFC 9068.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header};
use secrecy::SecretString;
use shared::{
    clock::{Clock, Timestamp},
    ids::SessionId,
    token::{Claims, FIRST_PARTY_CLIENT_ID, TOKEN_TYPE},
};
use uuid::Uuid;

use super::{error::Error, signing_key::KeyRing};
use crate::store;

/// A signed access token.
#[derive(Debug)]
pub(crate) struct AccessToken {
    pub(crate) token: SecretString,
    pub(crate) expires_in: Duration,
}

/// Signs access tokens.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) keys: Arc<KeyRing>,
    /// `iss`.
    pub(crate) name: String,
    /// `aud`.
    pub(crate) audience: String,
    pub(crate) life: Duration,
    pub(crate) clock: Clock,
}

impl Issuer {
    /// A token for this user in this session.
    pub(crate) fn issue(
        &self,
        user: &store::User,
        roles: Vec<String>,
        session_id: SessionId,
    ) -> Result<AccessToken, Error> {
        let now = self.clock.now();
        let claims = Claims {
            iss: self.name.clone(),
            aud: self.audience.clone(),
            sub: user.id,
            exp: seconds(now.plus(self.life)),
            iat: seconds(now),
            nbf: seconds(now),
            jti: Uuid::new_v4().to_string(),
            client_id: FIRST_PARTY_CLIENT_ID.to_owned(),
            sid: Some(session_id),
            ver: user.token_version,
            roles,
            preferred_username: user.login.clone(),
            permissions: Vec::new(),
        };
        let signing = self.keys.active();
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(signing.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &signing.key)
            .map_err(|error| Error::Internal(format!("cannot sign: {error}")))?;
        Ok(AccessToken {
            token: SecretString::from(token),
            expires_in: self.life,
        })
    }
}

fn seconds(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.as_seconds()).unwrap_or(0)
}
