//! Setting for the identity providers with which users log in.

use std::{fmt, fs, path::PathBuf};

use base::StartError;

use crate::providers::{self, ProviderSpec};

/// Identity providers, such as Google or Apple.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Identity providers")]
pub struct IdentityProviderSettings {
    /// JSON file with the identity providers with which users can log in: an array of objects, each
    /// with name, issuer, audiences and algorithms, and optionally display_name, web_client_id,
    /// discovery_url or jwks_url, nonce, trusts_email and allow_private_addresses. See
    /// deploy/docs/external-logins.md.
    #[arg(long, env = "IDENTITY_PROVIDERS_FILE", value_name = "FILE")]
    pub identity_providers_file: Option<PathBuf>,
}

impl IdentityProviderSettings {
    /// Reads the providers from the file. Without a file, there are none.
    pub(crate) fn read(&self) -> Result<Vec<ProviderSpec>, StartError> {
        let Some(path) = &self.identity_providers_file else {
            return Ok(Vec::new());
        };
        let bad = |error: &dyn fmt::Display| {
            StartError::Setting(format!("--identity-providers-file {}: {error}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| bad(&error))?;
        providers::parse(&text).map_err(|error| bad(&error))
    }
}
