//! The JWS Compact Serialization (RFC 7515, 7.1) and its base64url, in their one canonical
//! spelling.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// `header.claims.signature`, still encoded.
pub(super) struct Segments<'a> {
    pub(super) header: &'a str,
    pub(super) claims: &'a str,
    pub(super) signature: &'a str,
    /// What is signed: the first two with their dot.
    pub(super) signed: &'a str,
}

impl<'a> Segments<'a> {
    /// Takes exactly three segments, none of them empty.
    pub(super) fn split(token: &'a str) -> Option<Self> {
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

/// Decodes base64url. Padding, white space, foreign characters and stray trailing bits are refused,
/// so that no two texts give the same bytes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes base64url of exactly `N` bytes, as [`decode`] does.
pub(super) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

/// Encodes base64url without padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
