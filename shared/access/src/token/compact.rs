//! JWS Compact Serialization (RFC 7515, section 7.1) and its base64url, in the canonical form only.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// Three segments of a token, `header.claims.signature`, still encoded.
pub struct Segments<'a> {
    /// The header, encoded.
    pub header: &'a str,
    /// The claims, encoded.
    pub claims: &'a str,
    /// The signature, encoded.
    pub signature: &'a str,
    /// Signed part of the token: the first two segments and the dot between them.
    pub signed: &'a str,
}

impl<'a> Segments<'a> {
    /// Splits a token into its segments. Returns `None` unless there are exactly three and none is
    /// empty.
    pub fn split(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let empty = header.is_empty() || claims.is_empty() || signature.is_empty();
        (!empty && !claims.contains('.')).then_some(Self {
            header,
            claims,
            signature,
            signed,
        })
    }
}

/// Decodes base64url. Padding, white space, characters outside the alphabet and stray trailing bits
/// are refused, so that no two texts decode to the same bytes.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes base64url into exactly `N` bytes, as strictly as [`decode`].
pub(super) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

/// Encodes base64url without padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
