//! What a service that verifies tokens can be told about them.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};
use http::Uri;
use url::Url;

use super::{DEFAULT_AUDIENCE, DEFAULT_ISSUER, KeySet, KeySource, Verifier};
use crate::clock::Clock;

/// Where auth-service listens unless it is told otherwise.
const DEFAULT_AUTH_GRPC_URL: &str = "http://127.0.0.1:50051";

/// Whose tokens count, and where the keys come from. At most one source can be given.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access tokens")]
pub struct VerifierSettings {
    /// Whose access tokens are accepted: their `iss`.
    #[arg(long, env = "TOKEN_ISSUER", value_parser = NonEmptyStringValueParser::new(), value_name = "NAME", default_value = DEFAULT_ISSUER)]
    pub token_issuer: String,

    /// Access tokens for whom are accepted: their `aud`.
    #[arg(long, env = "TOKEN_AUDIENCE", value_parser = NonEmptyStringValueParser::new(), value_name = "NAME", default_value = DEFAULT_AUDIENCE)]
    pub token_audience: String,

    /// Take the verification keys from auth-service at this gRPC address. Without this and the next two it is
    /// port 50051 of this machine.
    #[arg(long, env = "AUTH_GRPC_URL", value_name = "URL", value_parser = Unrepeated(grpc_url))]
    #[arg(conflicts_with_all = ["auth_jwks_url", "auth_keys_file"])]
    pub auth_grpc_url: Option<Uri>,

    /// Take the verification keys from the JSON Web Key Set at this URL.
    #[arg(long, env = "AUTH_JWKS_URL", value_name = "URL", value_parser = Unrepeated(jwks_url))]
    #[arg(conflicts_with = "auth_keys_file")]
    pub auth_jwks_url: Option<Url>,

    /// Take the verification keys from this file: PEM public keys, or a JSON Web Key Set.
    #[arg(long, env = "AUTH_KEYS_FILE", value_name = "PATH")]
    pub auth_keys_file: Option<PathBuf>,

    /// How often the verification keys are loaded again, in seconds, 1 to 86400.
    #[arg(long, env = "KEYS_REFRESH_SECONDS", value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub keys_refresh_seconds: u32,
}

impl VerifierSettings {
    /// A verifier as set, that goes by these keys.
    pub fn verifier(&self, keys: KeySet, clock: Clock) -> Verifier {
        Verifier::new(&self.token_issuer, &self.token_audience, keys, clock)
    }

    /// The time from one load of the keys to the next.
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
                endpoint: settings
                    .auth_grpc_url
                    .clone()
                    .unwrap_or_else(|| Uri::from_static(DEFAULT_AUTH_GRPC_URL)),
            }
        }
    }
}

/// Parses an address. The error of clap's own parsers repeats the text, which may hold a password where none belongs.
#[derive(Clone)]
struct Unrepeated<T>(fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Unrepeated<T> {
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
        return Err("must be an address alone, such as http://127.0.0.1:50051".to_owned());
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
