//! Public keys of a provider, as it publishes them (RFC 7517).

use std::collections::HashMap;

use access::token::{Jwk, Object, decode_base64url};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::spec::Algorithm;

/// Maximum length of the id of a key, in bytes.
pub(super) const MAX_KID_LEN: usize = 256;

/// Keys that verify ID tokens, by their ids.
#[derive(Debug)]
pub(super) struct ProviderKeys(HashMap<String, ProviderKey>);

/// A key, and the only algorithm for which it is used.
#[derive(Clone, Debug)]
pub(super) struct ProviderKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Reason why a document is not a set of keys that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKeySet {
    #[error("it is not a JSON Web Key Set")]
    NotKeys,
    #[error("two of its keys have the same kid")]
    SameId,
    #[error("it holds no key for the algorithms of this provider")]
    Empty,
}

impl ProviderKeys {
    /// Reads a set. Keys for other algorithms or other uses are left out, and so are those that are
    /// not sound, or not public.
    pub(super) fn parse(json: &[u8], algorithms: &[Algorithm]) -> Result<Self, BadKeySet> {
        let Object(mut set) = Object::parse(json).ok_or(BadKeySet::NotKeys)?;
        let Some(Value::Array(published)) = set.remove("keys") else {
            return Err(BadKeySet::NotKeys);
        };
        let mut keys = HashMap::new();
        for key in published {
            let Value::Object(members) = key else {
                return Err(BadKeySet::NotKeys);
            };
            let Some((kid, key)) = ProviderKey::read(&members) else {
                continue;
            };
            if !algorithms.contains(&key.algorithm) {
                continue;
            }
            if keys.insert(kid, key).is_some() {
                return Err(BadKeySet::SameId);
            }
        }
        if keys.is_empty() {
            return Err(BadKeySet::Empty);
        }
        Ok(Self(keys))
    }

    /// Returns the key with this id.
    pub(super) fn get(&self, kid: &str) -> Option<&ProviderKey> {
        self.0.get(kid)
    }
}

impl ProviderKey {
    fn read(members: &Map<String, Value>) -> Option<(String, Self)> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        // `d`, `k` and `priv` are private or symmetric. Others know such a key now.
        let is_private = ["d", "k", "priv"].iter().any(|name| members.contains_key(*name));
        let is_for_signatures = members.get("use").is_none_or(|value| value == "sig");
        let verifies = members.get("key_ops").is_none_or(|operations| {
            let mut operations = operations.as_array().into_iter().flatten();
            operations.any(|operation| operation == "verify")
        });
        if is_private || !is_for_signatures || !verifies {
            return None;
        }
        let (algorithm, key) = match (text("kty")?, text("crv")) {
            ("RSA", None) => (
                Algorithm::Rs256,
                DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?,
            ),
            ("EC", Some("P-256")) => (
                Algorithm::Es256,
                DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?,
            ),
            ("OKP", Some("Ed25519")) => {
                let x = text("x")?;
                let public_key: [u8; 32] = decode_base64url(x)?.try_into().ok()?;
                // A point of small order would let anyone forge signatures.
                Jwk::from_public_key(&public_key).ok()?;
                (Algorithm::EdDsa, DecodingKey::from_ed_components(x).ok()?)
            }
            _ => return None,
        };
        if members.get("alg").is_some_and(|alg| alg != algorithm.name()) {
            return None;
        }
        let kid = text("kid").filter(|kid| (1..=MAX_KID_LEN).contains(&kid.len()))?;
        Some((kid.to_owned(), Self { algorithm, key }))
    }

    /// Returns whether this key made the signature of the message with this algorithm. A key for
    /// another algorithm did not, whatever the signature is.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &str) -> bool {
        let method = match self.algorithm {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        };
        algorithm == self.algorithm
            && jsonwebtoken::crypto::verify(signature, message, &self.key, method).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn parse(keys: &[Value]) -> Result<ProviderKeys, BadKeySet> {
        ProviderKeys::parse(json!({ "keys": keys }).to_string().as_bytes(), &Algorithm::ALL)
    }

    fn ed(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": kid, "use": "sig", "alg": "EdDSA"})
    }

    #[test]
    fn only_public_keys_for_signatures_by_a_known_algorithm_are_used() {
        let with = |name: &str, value: Value| {
            let mut key = ed("a");
            key[name] = value;
            key
        };
        assert!(parse(&[ed("a")]).expect("a set").get("a").is_some());
        for (key, why) in [
            (with("use", json!("enc")), "for encryption"),
            (with("key_ops", json!(["sign"])), "for signing"),
            (with("alg", json!("HS256")), "for another algorithm"),
            (with("d", json!("AA")), "private"),
            (with("k", json!("AA")), "symmetric"),
            (with("kid", json!("")), "without an id"),
            (with("kid", json!("k".repeat(MAX_KID_LEN + 1))), "with a long id"),
            (with("kty", json!("oct")), "of another type"),
            (with("crv", json!("X25519")), "of another curve"),
            (with("x", json!("!")), "not base64url"),
            (with("x", json!("AQ")), "of another length"),
            (
                with("x", json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
                "of small order",
            ),
            (json!({"kty": "oct", "k": "AA", "kid": "a"}), "symmetric"),
            (
                json!({"kty": "EC", "crv": "P-384", "x": X, "y": X, "kid": "a"}),
                "of another curve",
            ),
        ] {
            assert_eq!(parse(&[key]).expect_err(why), BadKeySet::Empty, "{why}");
        }
        let other = ProviderKeys::parse(json!({ "keys": [ed("a")] }).to_string().as_bytes(), &[Algorithm::Rs256]);
        assert_eq!(other.expect_err("of another algorithm"), BadKeySet::Empty);
    }

    #[test]
    fn two_keys_with_one_id_and_what_is_no_set_are_refused() {
        assert_eq!(parse(&[ed("a"), ed("a")]).expect_err("twice"), BadKeySet::SameId);
        parse(&[ed("a"), ed("b")]).expect("two keys");
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys": {}}"#,
            r#"{"keys": [1]}"#,
            r#"{"keys": [], "keys": []}"#,
        ] {
            let refused = ProviderKeys::parse(text.as_bytes(), &Algorithm::ALL);
            assert!(refused.is_err(), "{text}");
        }
    }
}
