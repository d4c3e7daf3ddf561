//! Sources of the verification keys: auth-service, a JWKS URL, or a file.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{error::with_causes, tls::tls_for};
use http::Uri;
use proto::auth::v1::{GetJwksRequest, key_service_client::KeyServiceClient};
use tokio::io::AsyncReadExt as _;
use tonic::transport::Endpoint;
use url::Url;

use super::{Download, DownloadError, Jwks, KeyError, KeySet, Reach, key_error::MAX_LEN, pem};

/// Timeout of one load. A source that takes longer counts as unreachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Source of the verification keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// RPC `GetJwks` of auth-service at this gRPC address, with `http` or `https`.
    AuthService {
        /// Address, such as `http://127.0.0.1:50051`.
        endpoint: Uri,
    },
    /// JWKS (RFC 7517) at this `http` or `https` URL. Redirects are not followed.
    JwksUrl(Url),
    /// File with one or several PEM sections `PUBLIC KEY` (RFC 8410), or with a JWKS.
    File(PathBuf),
}

/// Reason why the keys cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {error}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error from the operating system.
        error: io::Error,
    },
    /// The service or URL does not answer, or answers with an error.
    #[error("cannot get the keys from {origin}: {reason}")]
    Unreachable {
        /// Address of the source.
        origin: String,
        /// Description of the failure.
        reason: String,
    },
    /// The content of the source is not a set of keys for verification.
    #[error("cannot use the keys from {origin}: {error}")]
    Unusable {
        /// Path or address of the source.
        origin: String,
        /// Fault in the content.
        error: KeyError,
    },
}

impl KeySource {
    /// Loads the keys once.
    pub async fn load(&self) -> Result<Jwks, KeySourceError> {
        let read = async {
            match self {
                Self::AuthService { endpoint } => self.ask_auth_service(endpoint).await,
                Self::JwksUrl(url) => self.get_url(url).await,
                Self::File(path) => self.read_file(path).await,
            }
        };
        match tokio::time::timeout(ANSWER_WITHIN, read).await {
            Ok(keys) => keys,
            Err(_) => Err(self.unreachable_because(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
        }
    }

    /// Loads the keys of a file at start-up, so that a missing or faulty file is a configuration
    /// error. A service or URL may become available later, so [`follow`](Self::follow) loads its
    /// keys.
    pub async fn prepare(&self, keys: &KeySet) -> Result<(), KeySourceError> {
        if let Self::File(_) = self {
            keys.replace(self.load().await?);
        }
        Ok(())
    }
}

impl KeySource {
    async fn ask_auth_service(&self, endpoint: &Uri) -> Result<Jwks, KeySourceError> {
        let tls = tls_for(endpoint);
        let mut endpoint = Endpoint::from(endpoint.clone());
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).map_err(|error| self.unreachable(&error))?;
        }
        let channel = endpoint.connect().await.map_err(|error| self.unreachable(&error))?;
        let response = KeyServiceClient::new(channel)
            .max_decoding_message_size(MAX_LEN)
            .get_jwks(GetJwksRequest {})
            .await
            .map_err(|status| self.unreachable(&status))?;
        response.into_inner().try_into().map_err(|error| self.unusable(error))
    }

    async fn get_url(&self, url: &Url) -> Result<Jwks, KeySourceError> {
        let download = Download {
            url,
            accept: "application/jwk-set+json, application/json",
            max_len: MAX_LEN,
            reach: Reach::Anywhere,
        };
        let body = download.get().await.map_err(|error| match error {
            DownloadError::Unreachable(reason) => self.unreachable_because(reason),
            DownloadError::TooLarge(_) => self.unusable(KeyError::TooLarge),
        })?;
        Jwks::from_json(&body).map_err(|error| self.unusable(error))
    }

    async fn read_file(&self, path: &Path) -> Result<Jwks, KeySourceError> {
        let content = read(path).await.map_err(|error| KeySourceError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let keys = if content.len() > MAX_LEN {
            Err(KeyError::TooLarge)
        } else if content.trim_ascii_start().starts_with(b"{") {
            Jwks::from_json(&content)
        } else {
            pem::public_keys(&content)
        };
        keys.map_err(|error| self.unusable(error))
    }

    /// Returns the path or address, without the parts of a URL that may be secret.
    fn origin(&self) -> String {
        match self {
            Self::AuthService { endpoint } => {
                let authority = endpoint.authority().map_or("", |authority| authority.as_str());
                // The part before an @ may contain a password.
                let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
                format!("auth-service at {address}")
            }
            Self::JwksUrl(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn unreachable(&self, error: &dyn Error) -> KeySourceError {
        self.unreachable_because(with_causes(error))
    }

    fn unreachable_because(&self, reason: String) -> KeySourceError {
        KeySourceError::Unreachable {
            origin: self.origin(),
            reason,
        }
    }

    fn unusable(&self, error: KeyError) -> KeySourceError {
        KeySourceError::Unusable {
            origin: self.origin(),
            error,
        }
    }
}

/// Reads at most one byte more than the limit, so that the caller can detect larger files.
async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut content).await?;
    Ok(content)
}
