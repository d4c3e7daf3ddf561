//! Access tokens: signed JWTs (RFC 7519) of the profile RFC 9068, verified with public keys alone.
//!
//! There is one algorithm (EdDSA with Ed25519, RFC 8037), one `typ`, and one spelling of
//! everything: whatever auth-service would not issue is refused, as RFC 8725 advises. Nothing here
//! can sign.
//!
//! A service makes one [`KeySet`], lets a [`KeySource`] fill and refresh it, and asks a
//! [`Verifier`] about each token. What passes is a [`Principal`], which nothing else can make.

mod audience;
mod claims;
mod compact;
mod follow;
mod header;
mod json;
mod jwk;
mod jwks;
mod key_error;
mod keys;
mod pem;
mod principal;
mod source;
mod verifier;

use std::time::Duration;

pub use self::{
    audience::AcceptedAudiences,
    claims::{Audience, Claims},
    jwk::Jwk,
    jwks::Jwks,
    key_error::KeyError,
    keys::KeySet,
    principal::Principal,
    source::{KeySource, KeySourceError},
    verifier::Verifier,
};

/// `client_id` of the tokens that people get by logging in. Tokens of services carry the service's
/// own.
pub const FIRST_PARTY_CLIENT_ID: &str = "first-party";

/// `typ` of an access token (RFC 9068, 2.1), so that no other token can pass for one.
pub const TOKEN_TYPE: &str = "at+jwt";

/// `alg` of an access token (RFC 8037, 3.1).
pub const ALGORITHM: &str = "EdDSA";

/// `iss` where no setting says otherwise.
pub const DEFAULT_ISSUER: &str = "auth-service";

/// The `aud` of tokens for auth-service alone.
pub const AUTH_SERVICE: &str = "auth-service";

/// `aud` where no setting says otherwise.
pub const DEFAULT_AUDIENCE: &str = "game-backend";

/// How far the clocks of the issuer and of a verifier may differ.
pub const LEEWAY: Duration = base::clock::ALLOWANCE;

/// In bytes. A longer token is refused unread.
pub const MAX_TOKEN_LEN: usize = 8 * 1024;

/// Reason why a token is refused, as far as its bearer may know. Which check failed is logged at
/// debug level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Forged, damaged, from another issuer, or for another audience.
    #[error("the access token is not valid")]
    Invalid,
    /// A refresh token, which only auth-service can read, and never as a bearer token.
    #[error("the token is a refresh token")]
    RefreshToken,
    /// Expired. A new token will be accepted.
    #[error("the access token has expired")]
    Expired,
    /// Valid only after this time: the clock that issued it is ahead of this one by more than the
    /// leeway.
    #[error("the access token is not valid yet")]
    NotYetValid(Duration),
    /// Issued before the user changed: other roles, another password, a logout everywhere.
    #[error("the access token is older than its user's last change")]
    Stale,
    /// Issued for a session that has ended.
    #[error("the access token's session has ended")]
    Revoked,
}

#[cfg(test)]
mod tests;
