//! Issues access tokens: JWTs with the profile of RFC 9068.

use std::{borrow::Cow, str::FromStr, time::Duration};

use access::token::{AUTH_SERVICE, Claims, FIRST_PARTY_CLIENT_ID};
use base::{
    clock::{Clock, Timestamp},
    ids::SessionId,
    validate::InvalidFields,
};
use db::Db;
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    domain::{error::Error, keys::ring::KeyRing, services::client_id::ClientId},
    model::{Authentication, TokenHoldings, User},
    store,
};

/// A signed access token.
#[derive(Debug)]
pub(crate) struct AccessToken {
    pub(crate) token: SecretString,
    pub(crate) expires_in: Duration,
}

/// The bearer of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bearer<'a> {
    /// A person in this session, and when and how they authenticated.
    Session(SessionId, &'a Authentication),
    /// The service with this client id.
    Service(&'a str),
}

/// Services that a requested access token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestedAudience {
    /// Every service of the deployment.
    Deployment,
    /// Only auth-service.
    AuthService,
    /// Only the service with this client id.
    Service(ClientId),
}

/// The error for a text that names no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be auth-service or the client id of a service account")]
pub(crate) struct InvalidAudience;

impl RequestedAudience {
    /// Returns the name as it is requested; empty for the deployment.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Deployment => "",
            Self::AuthService => AUTH_SERVICE,
            Self::Service(client_id) => client_id.as_str(),
        }
    }
}

impl FromStr for RequestedAudience {
    type Err = InvalidAudience;

    fn from_str(text: &str) -> Result<Self, InvalidAudience> {
        Ok(match text {
            "" => Self::Deployment,
            AUTH_SERVICE => Self::AuthService,
            _ => Self::Service(text.parse().map_err(|_| InvalidAudience)?),
        })
    }
}

/// Signs access tokens.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) keys: KeyRing,
    /// Issuer (`iss`) of the tokens.
    pub(crate) name: String,
    /// Audience (`aud`) of the tokens: the deployment, or one service.
    pub(crate) audience: String,
    /// Lifetime of the tokens of people.
    pub(crate) life: Duration,
    /// Lifetime of the tokens of services.
    pub(crate) service_life: Duration,
    pub(crate) clock: Clock,
}

impl Issuer {
    /// Returns this issuer for the requested audience. Fails if no such service account exists.
    pub(crate) async fn for_audience(&self, db: &Db, audience: &RequestedAudience) -> Result<Cow<'_, Self>, Error> {
        let name = match audience {
            RequestedAudience::Deployment => return Ok(Cow::Borrowed(self)),
            RequestedAudience::AuthService => AUTH_SERVICE,
            RequestedAudience::Service(client_id) => {
                let client_id = client_id.as_str();
                let account = store::service_account_by_client_id(&mut db.read().await?, client_id).await?;
                account.ok_or_else(|| InvalidFields::one("audience", InvalidAudience.to_string()))?;
                client_id
            }
        };
        Ok(Cow::Owned(Self {
            audience: name.to_owned(),
            ..self.clone()
        }))
    }

    /// Issues a token for this user with these holdings.
    pub(crate) fn issue(
        &self,
        user: &User,
        holdings: &TokenHoldings,
        bearer: Bearer<'_>,
    ) -> Result<AccessToken, Error> {
        let now = self.clock.now();
        let (client_id, session, life) = match bearer {
            Bearer::Session(id, authentication) => (FIRST_PARTY_CLIENT_ID, Some((id, authentication)), self.life),
            Bearer::Service(client_id) => (client_id, None, self.service_life),
        };
        let authentication = session.map(|(_, authentication)| authentication);
        let claims = Claims {
            iss: self.name.clone(),
            aud: self.audience.as_str().into(),
            sub: user.id,
            exp: seconds(now.plus(life)),
            iat: seconds(now),
            nbf: seconds(now),
            jti: Uuid::new_v4().to_string(),
            client_id: client_id.to_owned(),
            sid: session.map(|(id, _)| id),
            ver: user.token_version,
            roles: holdings.roles.clone(),
            preferred_username: user.login.clone(),
            permissions: holdings.direct.clone(),
            auth_time: authentication.map(|it| seconds(it.time)),
            amr: authentication.map(|it| it.methods.to_vec()).unwrap_or_default(),
            acr: authentication.map(|it| it.acr.as_str().to_owned()),
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
