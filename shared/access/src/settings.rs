//! Settings of a service that verifies access tokens.

#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{StartError, clock::Clock};
use clap::{
    Arg, ArgGroup, Command,
    builder::{NonEmptyStringValueParser, TypedValueParser},
    error::ErrorKind,
};
use http::Uri;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    feed::{ClientSecret, Follower, ServiceCredentials, auth_channel},
    token::{AcceptedAudiences, DEFAULT_AUDIENCE, DEFAULT_ISSUER, KeySet, KeySource, Verifier},
};

/// Default gRPC address of auth-service.
const DEFAULT_AUTH_GRPC_URL: &str = "http://127.0.0.1:50051";

/// Rules for access tokens, and the source of the verification keys. At most one source can be
/// given. With the credentials of a service account, keys and revocations come from the access feed
/// of auth-service.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access tokens")]
#[command(group(ArgGroup::new("auth_client_secret_source").args(["auth_client_secret_file", "auth_client_secret"])))]
pub struct VerifierSettings {
    /// Issuer (`iss`) of the access tokens that are accepted. Must be the same in all services.
    #[arg(long, env = "TOKEN_ISSUER", value_name = "NAME", default_value = DEFAULT_ISSUER)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub token_issuer: String,

    /// Audience (`aud`) of the access tokens that are accepted: the name of the deployment. Must be
    /// the same in all services. Tokens for the service's own name (--auth-client-id) are accepted,
    /// too.
    #[arg(long, env = "TOKEN_AUDIENCE", value_name = "NAME", default_value = DEFAULT_AUDIENCE)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub token_audience: String,

    /// gRPC URL of auth-service, from which the verification keys come [default:
    /// http://127.0.0.1:50051, unless --auth-jwks-url or --auth-keys-file is set].
    #[arg(long, env = "AUTH_GRPC_URL", value_name = "URL", value_parser = ParserWithoutEcho(grpc_url))]
    #[arg(conflicts_with_all = ["auth_jwks_url", "auth_keys_file"])]
    pub auth_grpc_url: Option<Uri>,

    /// URL of a JSON Web Key Set with the verification keys, as an alternative to --auth-grpc-url.
    #[arg(long, env = "AUTH_JWKS_URL", value_name = "URL", value_parser = ParserWithoutEcho(jwks_url))]
    #[arg(conflicts_with = "auth_keys_file")]
    pub auth_jwks_url: Option<Url>,

    /// File with the verification keys, as PEM public keys or as a JSON Web Key Set, as an
    /// alternative to --auth-grpc-url.
    #[arg(long, env = "AUTH_KEYS_FILE", value_name = "PATH")]
    pub auth_keys_file: Option<PathBuf>,

    /// Client id of the service account with which the service follows the access feed of
    /// auth-service. Logouts, deactivations and role changes then take effect at once. Without it
    /// they take effect when access tokens expire.
    #[arg(long, env = "AUTH_CLIENT_ID", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    #[arg(requires = "auth_client_secret_source", conflicts_with_all = ["auth_jwks_url", "auth_keys_file"])]
    pub auth_client_id: Option<String>,

    /// File with the secret of the service account. It is read again for every new token, so that
    /// it can be replaced at any time.
    #[arg(
        long,
        env = "AUTH_CLIENT_SECRET_FILE",
        value_name = "FILE",
        requires = "auth_client_id"
    )]
    pub auth_client_secret_file: Option<PathBuf>,

    /// Secret of the service account, instead of a file. Use the environment variable rather than
    /// the flag: other users of the machine can read command-line arguments.
    #[arg(
        long,
        env = "AUTH_CLIENT_SECRET",
        value_name = "SECRET",
        requires = "auth_client_id",
        hide_env_values = true
    )]
    pub auth_client_secret: Option<SecretString>,

    /// Seconds between two loads of the verification keys [1 to 86400]. Ignored if the service
    /// follows the access feed.
    #[arg(long, env = "KEYS_REFRESH_SECONDS", value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub keys_refresh_seconds: u32,
}

impl VerifierSettings {
    /// Creates a verifier with these settings and keys. `service` is the name of the service, for
    /// use if no client id is set.
    pub fn verifier(&self, service: &str, keys: KeySet, clock: Clock) -> Verifier {
        Verifier::new(&self.token_issuer, self.audiences(service), keys, clock)
    }

    /// Returns the accepted audiences. `service` is the name of the service, for use if no client
    /// id is set.
    pub fn audiences(&self, service: &str) -> AcceptedAudiences {
        let own = self.auth_client_id.as_deref().unwrap_or(service);
        AcceptedAudiences::deployment(&self.token_audience).or_service(own)
    }

    /// Returns the file with the client secret, if one is set, together with the name of its
    /// setting.
    pub fn secret_file(&self) -> (&'static str, Option<&Path>) {
        ("--auth-client-secret-file", self.auth_client_secret_file.as_deref())
    }

    /// Creates the follower of the access feed. Returns `None` if no credentials of a service
    /// account are set.
    ///
    /// # Errors
    ///
    /// Fails if the secret cannot be read or is empty, or if the URL is `https` and the trusted
    /// certificates of the system cannot be used.
    pub fn follower(&self) -> Result<Option<Follower>, StartError> {
        let Some(client_id) = &self.auth_client_id else {
            return Ok(None);
        };
        let (client_secret, setting) = match (&self.auth_client_secret_file, &self.auth_client_secret) {
            (Some(file), _) => (ClientSecret::File(file.clone()), "--auth-client-secret-file"),
            (None, Some(secret)) => (ClientSecret::Given(secret.clone()), "--auth-client-secret"),
            (None, None) => return Err(StartError::setting("--auth-client-id needs --auth-client-secret-file")),
        };
        let secret = client_secret.read();
        let secret =
            secret.map_err(|error| StartError::Setting(format!("cannot read the secret ({setting}): {error}")))?;
        if secret.expose_secret().is_empty() {
            return Err(StartError::Setting(format!("the secret is empty ({setting})")));
        }
        let channel = auth_channel(&self.auth_address()).map_err(StartError::setting)?;
        let credentials = ServiceCredentials {
            client_id: client_id.clone(),
            client_secret,
        };
        Ok(Some(Follower::new(channel, credentials)))
    }

    fn auth_address(&self) -> Uri {
        let address = self.auth_grpc_url.clone();
        address.unwrap_or_else(|| Uri::from_static(DEFAULT_AUTH_GRPC_URL))
    }

    /// Returns the time between two loads of the verification keys.
    pub fn keys_refresh(&self) -> Duration {
        Duration::from_secs(self.keys_refresh_seconds.into())
    }
}

impl From<&VerifierSettings> for KeySource {
    fn from(settings: &VerifierSettings) -> Self {
        if let Some(path) = &settings.auth_keys_file {
            Self::File(path.clone())
        } else if let Some(url) = &settings.auth_jwks_url {
            Self::JwksUrl(url.clone())
        } else {
            Self::AuthService {
                endpoint: settings.auth_address(),
            }
        }
    }
}

/// Parser for a URL whose errors do not repeat the text. The text may contain a password by
/// mistake, and the errors of clap's own parsers would print it.
#[derive(Clone)]
struct ParserWithoutEcho<T>(fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for ParserWithoutEcho<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let text = value.to_str().ok_or_else(|| "must be UTF-8".to_owned());
        text.and_then(self.0).map_err(|why| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{argument}': {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

fn grpc_url(text: &str) -> Result<Uri, String> {
    let url = jwks_url(text)?;
    if url.path() != "/" || url.query().is_some() {
        return Err("must be only an address, such as http://127.0.0.1:50051".to_owned());
    }
    text.parse().map_err(|error| format!("{error}"))
}

fn jwks_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password".to_owned());
    }
    Ok(url)
}
