//! The beginning of an external login.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::{
    error::Error, identities::nonces::LIFE, request_context::RequestContext, users::accounts::Accounts,
};

/// A nonce for an external login.
#[derive(Debug)]
pub(crate) struct StartedLogin {
    /// Nonce that is presented with the ID token.
    pub(crate) nonce: SecretString,
    /// Value that the client sends to the provider, which repeats it in the ID token.
    pub(crate) provider_nonce: SecretString,
    pub(crate) expires_in: Duration,
}

impl Accounts {
    /// Makes a nonce for a login with this provider. Nothing is stored.
    pub(crate) fn start_external_login(&self, context: &RequestContext, provider: &str) -> Result<StartedLogin, Error> {
        self.attempts.admit_login(context)?;
        let found = self.identities.providers.get(provider);
        let found = found.ok_or(Error::IdentityProviderNotFound)?;
        let nonce = self.identities.nonces.make(provider, self.clock.now());
        Ok(StartedLogin {
            provider_nonce: SecretString::from(found.repeated_nonce(nonce.expose_secret())),
            nonce,
            expires_in: LIFE,
        })
    }
}
