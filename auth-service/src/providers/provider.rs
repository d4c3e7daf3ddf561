//! Identity providers, and the verification of their ID tokens.

use std::{sync::Arc, time::Duration};

use access::token::{MAX_TOKEN_LEN, Segments, decode_base64url};
use base::clock::Clock;

use super::{
    claims::{Header, IdToken, Refusal},
    key_cache::{KeyCache, Lookup},
    spec::ProviderSpec,
};

/// The identity providers of the deployment, in the order of the operator's file.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdentityProviders(Arc<[IdentityProvider]>);

/// An identity provider. Clones share the cached keys.
#[derive(Clone, Debug)]
pub(crate) struct IdentityProvider {
    spec: Arc<ProviderSpec>,
    keys: KeyCache,
    clock: Clock,
}

/// Reason why an ID token could not be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unverified {
    /// It is not one of this provider for this deployment and this nonce, or has expired.
    Invalid,
    /// The keys of the provider are out of reach. Another attempt makes sense after this time.
    Unavailable(Duration),
}

impl IdentityProviders {
    pub(crate) fn new(specs: Vec<ProviderSpec>, clock: &Clock) -> Self {
        let provider = |spec: ProviderSpec| {
            let spec = Arc::new(spec);
            IdentityProvider {
                keys: KeyCache::new(Arc::clone(&spec), clock.clone()),
                clock: clock.clone(),
                spec,
            }
        };
        Self(specs.into_iter().map(provider).collect())
    }

    /// Returns the provider with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&IdentityProvider> {
        self.iter().find(|provider| provider.spec.name == name)
    }

    /// Returns whether users can log in with ID tokens of this issuer.
    pub(crate) fn has_issuer(&self, issuer: &str) -> bool {
        self.iter().any(|provider| provider.spec.issuer == issuer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &IdentityProvider> {
        self.0.iter()
    }
}

impl IdentityProvider {
    /// Returns the description of the provider.
    pub(crate) fn spec(&self) -> &ProviderSpec {
        &self.spec
    }

    /// Returns the value that the provider is to repeat in the ID token for this nonce.
    pub(crate) fn repeated_nonce(&self, nonce: &str) -> String {
        self.spec.nonce_rule.applied_to(nonce)
    }

    /// Verifies an ID token that was issued for this nonce. The cheapest checks come first, and no
    /// claim is trusted before the signature is checked.
    pub(crate) async fn verify(&self, id_token: &str, nonce: &str) -> Result<IdToken, Unverified> {
        let invalid = |check: Refusal| {
            tracing::debug!(provider = self.spec.name, check, "ID token refused");
            Unverified::Invalid
        };
        if id_token.len() > MAX_TOKEN_LEN {
            return Err(invalid("length"));
        }
        let segments = Segments::split(id_token).ok_or_else(|| invalid("three segments"))?;
        let decoded = |text: &str, check: Refusal| decode_base64url(text).ok_or_else(|| invalid(check));
        let header = decoded(segments.header, "base64url of the header")?;
        let claims = decoded(segments.claims, "base64url of the claims")?;
        decoded(segments.signature, "base64url of the signature")?;
        let header = Header::parse(&header, &self.spec).map_err(invalid)?;
        let key = match self.keys.get(&header.kid).await {
            Lookup::Found(key) => key,
            Lookup::Unknown => return Err(invalid("known kid")),
            Lookup::Unavailable(pause) => return Err(Unverified::Unavailable(pause)),
        };
        if !key.verifies(header.algorithm, segments.signed.as_bytes(), segments.signature) {
            return Err(invalid("signature"));
        }
        let nonce = self.repeated_nonce(nonce);
        IdToken::parse(&claims, &self.spec, &nonce, self.clock.now()).map_err(invalid)
    }
}
