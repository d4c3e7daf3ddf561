//! Public keys in PEM (RFC 7468): sections `PUBLIC KEY`, each with an Ed25519
//! `SubjectPublicKeyInfo` (RFC 8410, section 4).

use rustls::pki_types::pem::{PemObject as _, SectionKind};

use super::{Jwk, Jwks, KeyError};

/// Encoding of SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes }, without those 32
/// bytes. DER has no other encoding of it.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Reads all sections. Text around them is ignored, as RFC 7468 (section 2) requires.
pub(super) fn public_keys(pem: &[u8]) -> Result<Jwks, KeyError> {
    // The parser skips sections with an unknown label, which would include encrypted private keys.
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
