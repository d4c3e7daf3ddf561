//! Access tokens: signed JWTs (RFC 7519) of the profile in RFC 9068, verified with only public
//! keys.
//!
//! There is one algorithm (EdDSA with Ed25519, RFC 8037), one `typ`, and one canonical form of
//! everything. A token that auth-service would not issue is refused, as RFC 8725 advises. Nothing
//! in this module can sign.
//!
//! A service creates one [`KeySet`], lets a [`KeySource`] fill and refresh it, and passes each
//! token to a [`Verifier`]. The result for a valid token is a [`Principal`], which nothing else can
//! create.

mod acr;
mod audience;
mod claims;
mod compact;
mod download;
mod follow;
mod header;
mod json;
mod jwk;
mod jwks;
mod key_error;
mod keys;
mod pem;
mod principal;
mod public_address;
mod source;
mod verifier;

use std::time::Duration;

pub use self::{
    acr::{Acr, UnknownAcr},
    audience::AcceptedAudiences,
    claims::{Audience, Claims},
    compact::{Segments, decode as decode_base64url},
    download::{Download, DownloadError, Reach},
    json::Object,
    jwk::Jwk,
    jwks::Jwks,
    key_error::KeyError,
    keys::KeySet,
    principal::Principal,
    source::{KeySource, KeySourceError},
    verifier::Verifier,
};

/// `client_id` in the tokens that people get by logging in. The token of a service carries the
/// service's own client id.
pub const FIRST_PARTY_CLIENT_ID: &str = "first-party";

/// `typ` of an access token (RFC 9068, section 2.1). It keeps other kinds of tokens from being
/// accepted as access tokens.
pub const TOKEN_TYPE: &str = "at+jwt";

/// `alg` of an access token (RFC 8037, section 3.1).
pub const ALGORITHM: &str = "EdDSA";

/// Default `iss`.
pub const DEFAULT_ISSUER: &str = "auth-service";

/// `aud` of tokens for auth-service only.
pub const AUTH_SERVICE: &str = "auth-service";

/// Default `aud`.
pub const DEFAULT_AUDIENCE: &str = "game-backend";

/// Largest tolerated difference between the clocks of the issuer and of a verifier.
pub const LEEWAY: Duration = base::clock::ALLOWANCE;

/// Longest token, in bytes. A longer one is refused unread.
pub const MAX_TOKEN_LEN: usize = 8 * 1024;

/// Reason why a token is refused, in as much detail as its bearer may know. The check that failed
/// is logged at debug level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Forged, damaged, or from another issuer.
    #[error("the access token is not valid")]
    Invalid,
    /// Not sent as `Bearer <token>`, or sent twice.
    #[error("the access token is not sent as a bearer token")]
    NotBearer,
    /// Genuine, but issued for another audience.
    #[error("the access token is for another service")]
    OtherAudience,
    /// A refresh token. Only auth-service can read it, and it is never accepted as a bearer token.
    #[error("the token is a refresh token")]
    RefreshToken,
    /// Expired. A new token will be accepted.
    #[error("the access token has expired")]
    Expired,
    /// Not valid until this much time has passed: the issuer's clock is ahead of this machine's by
    /// more than the leeway.
    #[error("the access token is not valid yet")]
    NotYetValid(Duration),
    /// Issued before the user changed: new roles, a new password, or a logout everywhere.
    #[error("the access token is older than its user's last change")]
    Stale,
    /// Issued for a session that has ended.
    #[error("the access token's session has ended")]
    Revoked,
}

#[cfg(test)]
mod tests;
