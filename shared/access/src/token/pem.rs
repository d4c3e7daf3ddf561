//! Public keys in PEM (RFC 7468): sections `PUBLIC KEY` that hold an Ed25519 `SubjectPublicKeyInfo`
//! (RFC 8410, 4).

use rustls::pki_types::pem::{PemObject as _, SectionKind};

use super::{Jwk, Jwks, KeyError};

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes }, but for those bytes. DER has
/// no other way to say it.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Reads all the sections; text around them is passed over, as RFC 7468 (2) wants.
pub(super) fn public_keys(pem: &[u8]) -> Result<Jwks, KeyError> {
    // The parser passes over the labels that it does not know, and encrypted private keys with
    // them.
    let pem = str::from_utf8(pem).map_err(|_| KeyError::NotKeys)?;
    for label in pem.lines().filter_map(|line| line.strip_prefix("-----BEGIN ")) {
        if label.contains("PRIVATE KEY") {
            return Err(KeyError::PrivateKey);
        }
        if label.trim_end() != "PUBLIC KEY-----" {
            return Err(KeyError::OtherPem);
        }
    }
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        let (_, der) = section.map_err(|_| KeyError::NotKeys)?;
        let public_key = der
            .strip_prefix(&SPKI_PREFIX)
            .and_then(|key| key.try_into().ok())
            .ok_or(KeyError::BadKey("a PUBLIC KEY section must hold an Ed25519 key"))?;
        keys.push(Jwk::from_public_key(public_key)?);
    }
    if keys.is_empty() {
        return Err(KeyError::NotKeys);
    }
    Jwks::new(keys)
}
