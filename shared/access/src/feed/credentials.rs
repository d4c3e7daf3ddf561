//! Credentials with which a service calls auth-service: its client id and secret, and the access
//! token that it gets for them.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use base::StartError;
use futures_util::future::BoxFuture;
use proto::auth::v1::{IssueServiceTokenRequest, auth_service_client::AuthServiceClient};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::error::FollowError;
use crate::token::AUTH_SERVICE;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Fraction of its life after which a token is replaced.
const RENEWAL_FRACTION: f64 = 0.8;

/// Client id and secret of a service account.
#[derive(Clone, Debug)]
pub struct ServiceCredentials {
    /// Name of the service account.
    pub client_id: String,
    /// Secret that proves the identity of the service.
    pub client_secret: ClientSecret,
}

/// Source of the client secret.
#[derive(Clone)]
pub enum ClientSecret {
    /// The secret itself.
    Given(SecretString),
    /// A file with the secret. It is read again for every new token, so that the secret can be
    /// rotated without a restart.
    File(PathBuf),
    /// The secret itself, with a function that restores it if auth-service refuses it. Only for a
    /// follower that runs in the same process as auth-service.
    Restorable(SecretString, Restore),
}

/// Function that makes auth-service accept a secret again after refusing it.
pub type Restore = Arc<dyn Fn() -> BoxFuture<'static, Result<(), StartError>> + Send + Sync>;

impl ClientSecret {
    /// Reads the secret. White space around the secret in a file is removed.
    pub fn read(&self) -> io::Result<SecretString> {
        match self {
            Self::Given(secret) | Self::Restorable(secret, _) => Ok(secret.clone()),
            Self::File(path) => {
                let text = SecretString::from(std::fs::read_to_string(path)?);
                Ok(SecretString::from(text.expose_secret().trim()))
            }
        }
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Restorable(..) => f.write_str("Restorable"),
        }
    }
}

/// Cache of the current access token, which is replaced in time.
#[derive(Debug)]
pub(super) struct Tokens {
    channel: Channel,
    credentials: ServiceCredentials,
    current: Mutex<Option<ServiceToken>>,
}

/// Access token for the service's own calls.
#[derive(Clone)]
pub(super) struct ServiceToken {
    authorization: MetadataValue<Ascii>,
    /// Time from which the token must be replaced.
    pub(super) renew_at: Instant,
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceToken").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(channel: Channel, credentials: ServiceCredentials) -> Self {
        Self {
            channel,
            credentials,
            current: Mutex::default(),
        }
    }

    /// Returns the current token, or gets a new one if it is time to replace it.
    pub(super) async fn get(&self) -> Result<ServiceToken, FollowError> {
        // The lock is held during the call, so that concurrent callers wait for this token.
        let mut current = self.current.lock().await;
        if let Some(token) = &*current
            && Instant::now() < token.renew_at
        {
            return Ok(token.clone());
        }
        let token = self.issue().await?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// Drops the current token, which was refused, so that the next call gets another.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }

    async fn issue(&self) -> Result<ServiceToken, FollowError> {
        let answer = self.ask().await;
        let ClientSecret::Restorable(_, restore) = &self.credentials.client_secret else {
            return answer;
        };
        match answer {
            Err(FollowError::Token(status)) if status.code() == Code::Unauthenticated => {
                tracing::warn!(
                    client_id = self.credentials.client_id,
                    "the secret of this process's own service account was replaced; restoring it"
                );
                let restored = restore().await;
                restored.map_err(|error| FollowError::Secret(io::Error::other(error.to_string())))?;
                self.ask().await
            }
            answer => answer,
        }
    }

    async fn ask(&self) -> Result<ServiceToken, FollowError> {
        let secret = self.credentials.client_secret.read().map_err(FollowError::Secret)?;
        let request = IssueServiceTokenRequest {
            client_id: self.credentials.client_id.clone(),
            client_secret: secret.expose_secret().to_owned(),
            // The token is only for auth-service. A version of auth-service that does not know this
            // field ignores it.
            audience: AUTH_SERVICE.to_owned(),
        };
        let asked = Instant::now();
        let mut client = AuthServiceClient::new(self.channel.clone());
        let answer = timeout(ANSWER_WITHIN, client.issue_service_token(request)).await;
        let answer = answer.map_err(|_| FollowError::Silent(ANSWER_WITHIN))?;
        let token = answer.map_err(FollowError::Token)?.into_inner();
        let authorization = format!("Bearer {}", token.access_token).parse();
        let mut authorization: MetadataValue<Ascii> =
            authorization.map_err(|_| FollowError::Token(Status::internal("the access token is not ASCII")))?;
        authorization.set_sensitive(true);
        let life = Duration::from_secs(u64::try_from(token.access_expires_in).unwrap_or(0));
        Ok(ServiceToken {
            authorization,
            renew_at: asked + life.mul_f64(RENEWAL_FRACTION),
        })
    }
}

impl ServiceToken {
    /// Wraps a message in a request that carries this token.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.authorization.clone());
        request
    }
}
