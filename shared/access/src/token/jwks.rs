//! Set of public keys, as auth-service publishes it (RFC 7517, section 5) and as a verifier reads
//! it.
//!
//! Keys of other types or for other uses are ignored, so that one set can serve other readers too.
//! Content that does not belong in a published set is an error: a private key, two keys with the
//! same id, or an Ed25519 key for signatures that cannot be used.

use std::collections::HashSet;

use proto::auth;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ALGORITHM, KeyError, compact,
    json::Object,
    jwk::{CURVE, Jwk, KEY_TYPE, USE},
};

/// JSON Web Key Set: at least one key, and no two with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

impl Jwks {
    /// Creates a set of these keys.
    ///
    /// # Errors
    ///
    /// Fails if there is no key, or if two keys have the same id.
    pub fn new(keys: Vec<Jwk>) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        let mut kids = HashSet::new();
        if let Some(twice) = keys.iter().find(|key| !kids.insert(key.kid())) {
            return Err(KeyError::DuplicateKid(twice.kid().to_owned()));
        }
        Ok(Self { keys })
    }

    /// Parses a set in JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, KeyError> {
        let Object(mut set) = Object::parse(json).ok_or(KeyError::NotKeys)?;
        let Some(Value::Array(keys)) = set.remove("keys") else {
            return Err(KeyError::NotKeys);
        };
        let keys = keys.into_iter().map(|key| match key {
            Value::Object(members) => Candidate::from_json(&members)?.accept(),
            _ => Err(KeyError::NotKeys),
        });
        Self::new(keys.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// Returns the keys.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    pub(crate) fn into_keys(self) -> impl Iterator<Item = Jwk> {
        self.keys.into_iter()
    }
}

impl From<Jwk> for Jwks {
    fn from(key: Jwk) -> Self {
        Self { keys: vec![key] }
    }
}

impl From<&Jwks> for auth::v1::GetJwksResponse {
    fn from(set: &Jwks) -> Self {
        Self {
            keys: set.keys.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<auth::v1::GetJwksResponse> for Jwks {
    type Error = KeyError;

    fn try_from(response: auth::v1::GetJwksResponse) -> Result<Self, KeyError> {
        let keys = response.keys.iter().map(|key| Candidate::from_proto(key).accept());
        Self::new(keys.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }
}

/// Members of a key that decide whether it can verify access tokens. Any of them may be missing.
struct Candidate<'a> {
    kty: Option<&'a str>,
    crv: Option<&'a str>,
    x: Option<&'a str>,
    kid: Option<&'a str>,
    r#use: Option<&'a str>,
    alg: Option<&'a str>,
    verifies: bool,
}

impl<'a> Candidate<'a> {
    fn from_json(members: &'a Map<String, Value>) -> Result<Self, KeyError> {
        // `d` is the private part of EC, OKP and RSA keys; the other private members of RSA keys
        // never appear without it. `k` is a symmetric key, and `priv` the private part of AKP keys.
        if ["d", "k", "priv"].iter().any(|name| members.contains_key(*name)) {
            return Err(KeyError::PrivateKey);
        }
        let text = |name| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(KeyError::NotKeys),
        };
        let verifies = match members.get("key_ops") {
            None => true,
            Some(operations) => operations
                .as_array()
                .is_some_and(|operations| operations.iter().any(|operation| operation == "verify")),
        };
        Ok(Self {
            kty: text("kty")?,
            crv: text("crv")?,
            x: text("x")?,
            kid: text("kid")?,
            r#use: text("use")?,
            alg: text("alg")?,
            verifies,
        })
    }

    fn from_proto(key: &'a auth::v1::Jwk) -> Self {
        fn present(text: &str) -> Option<&str> {
            (!text.is_empty()).then_some(text)
        }
        Self {
            kty: present(&key.kty),
            crv: present(&key.crv),
            x: present(&key.x),
            kid: present(&key.kid),
            r#use: present(&key.r#use),
            alg: present(&key.alg),
            verifies: true,
        }
    }

    /// Returns the key, or `None` if it is not meant to verify access tokens.
    ///
    /// # Errors
    ///
    /// Fails if the key is meant to verify access tokens but cannot be used.
    fn accept(self) -> Result<Option<Jwk>, KeyError> {
        let ours = self.kty == Some(KEY_TYPE)
            && self.crv == Some(CURVE)
            && self.r#use.is_none_or(|r#use| r#use == USE)
            && self.alg.is_none_or(|alg| alg == ALGORITHM)
            && self.verifies;
        if !ours {
            return Ok(None);
        }
        let public_key = self
            .x
            .and_then(compact::decode_array)
            .ok_or(KeyError::BadKey("its x must be 32 bytes in base64url"))?;
        match self.kid {
            Some(kid) => Jwk::named(kid.to_owned(), &public_key),
            None => Jwk::from_public_key(&public_key),
        }
        .map(Some)
    }
}
