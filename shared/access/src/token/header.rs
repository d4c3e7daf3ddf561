//! The header of an access token: `alg`, `typ` and `kid`, and nothing beside them.
//!
//! Every other parameter of RFC 7515 (4.1) either brings a key of the sender's choice (`jwk`,
//! `jku`, `x5u`, `x5c`) or changes how the token is to be read (`crit`, `b64`, `zip`, `cty`).
//! auth-service sets none of them.

use super::{ALGORITHM, TOKEN_TYPE, json::Object};

/// In bytes. Thumbprints have 43.
pub(super) const MAX_KID_LEN: usize = 64;

/// Reads a decoded header and gives its `kid`, or says what is wrong.
pub(super) fn kid(json: &[u8]) -> Result<String, &'static str> {
    let Object(mut members) = Object::parse(json).ok_or("the header is an object without duplicates")?;
    if members.get("alg").and_then(|alg| alg.as_str()) != Some(ALGORITHM) {
        return Err("alg");
    }
    if members.get("typ").and_then(|typ| typ.as_str()) != Some(TOKEN_TYPE) {
        return Err("typ");
    }
    if members.len() != 3 {
        return Err("the header has alg, typ and kid alone");
    }
    match members.remove("kid") {
        Some(serde_json::Value::String(kid)) if (1..=MAX_KID_LEN).contains(&kid.len()) => Ok(kid),
        _ => Err("kid"),
    }
}
