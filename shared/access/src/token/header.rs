//! Header of an access token: `alg`, `typ` and `kid`, and no other parameter.
//!
//! Every other parameter of RFC 7515 (section 4.1) either supplies a key of the sender's choice
//! (`jwk`, `jku`, `x5u`, `x5c`) or changes how the token must be read (`crit`, `b64`, `zip`,
//! `cty`). auth-service sets none of them.

use super::{ALGORITHM, TOKEN_TYPE, json::Object};

/// Longest `kid`, in bytes. A thumbprint has 43.
pub(super) const MAX_KID_LEN: usize = 64;

/// Reads a decoded header and returns its `kid`, or the name of the check that failed.
pub(super) fn kid(json: &[u8]) -> Result<String, &'static str> {
    let Object(mut members) = Object::parse(json).ok_or("the header is an object without duplicates")?;
    if members.get("alg").and_then(|alg| alg.as_str()) != Some(ALGORITHM) {
        return Err("alg");
    }
    if members.get("typ").and_then(|typ| typ.as_str()) != Some(TOKEN_TYPE) {
        return Err("typ");
    }
    if members.len() != 3 {
        return Err("the header must have only alg, typ and kid");
    }
    match members.remove("kid") {
        Some(serde_json::Value::String(kid)) if (1..=MAX_KID_LEN).contains(&kid.len()) => Ok(kid),
        _ => Err("kid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_has_1_to_64_bytes() {
        let read = |id: &str| kid(format!(r#"{{"alg":"{ALGORITHM}","typ":"{TOKEN_TYPE}","kid":"{id}"}}"#).as_bytes());
        for length in [1, MAX_KID_LEN] {
            let id = "k".repeat(length);
            assert_eq!(read(&id), Ok(id));
        }
        for length in [0, MAX_KID_LEN + 1] {
            assert_eq!(read(&"k".repeat(length)), Err("kid"), "{length}");
        }
    }
}
