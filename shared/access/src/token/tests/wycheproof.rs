//! Tests with Project Wycheproof's vectors for Ed25519 and for JSON Web Signatures (JWS).
//!
//! `wycheproof/` holds two files of `testvectors_v1` at commit
//! dac1dd4729fd1f8dd9e1e9f3dce51d783da6c166 of the repository C2SP/wycheproof, unmodified, and
//! their licence (Apache 2.0). A newer version of a file may be copied over the old one: the tests
//! check every vector in it.

use std::collections::BTreeSet;

use base::clock::Clock;
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        DEFAULT_AUDIENCE, DEFAULT_ISSUER, Jwk, Jwks, KeyError, Verifier,
        compact::{self, Segments},
        header,
        pem::public_keys,
    },
    NOW, TokenError, second,
};
use crate::testing::tokens::TokenMint;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<Group> {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Valid,
    Invalid,
    /// Legal, but weak or unusual. Neither file has such a vector. The verifier accepts only one
    /// form of everything, so such a vector must be refused unless we decide otherwise.
    Acceptable,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EddsaGroup {
    public_key: EddsaKey,
    public_key_pem: String,
    public_key_jwk: Value,
    tests: Vec<EddsaVector>,
}

#[derive(Deserialize)]
struct EddsaKey {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EddsaVector {
    tc_id: u32,
    comment: String,
    msg: String,
    sig: String,
    result: Verdict,
}

#[derive(Deserialize)]
struct JwsGroup {
    private: Value,
    public: Option<Value>,
    tests: Vec<JwsVector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JwsVector {
    tc_id: u32,
    comment: String,
    jws: String,
    result: Verdict,
}

fn eddsa() -> File<EddsaGroup> {
    serde_json::from_str(include_str!("wycheproof/ed25519_test.json")).unwrap()
}

fn jws() -> File<JwsGroup> {
    serde_json::from_str(include_str!("wycheproof/json_web_signature_test.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn ed25519_signatures_are_verified_as_wycheproof_expects() {
    let file = eddsa();
    let (mut checked, mut valid) = (0, 0);
    for group in file.test_groups {
        let public_key: [u8; 32] = bytes(&group.public_key.pk).try_into().unwrap();
        let key = Jwk::from_public_key(&public_key).unwrap();
        for vector in group.tests {
            let accepted = key.verify(&bytes(&vector.msg), &bytes(&vector.sig));
            let id = format!("{} {}", vector.tc_id, vector.comment);
            assert_eq!(accepted, vector.result == Verdict::Valid, "vector {id}");
            checked += 1;
            valid += usize::from(accepted);
        }
    }
    assert_eq!(checked, file.number_of_tests);
    assert!(valid > 0 && valid < checked);
}

#[test]
fn a_wycheproof_key_is_the_same_in_every_form() {
    for group in eddsa().test_groups {
        let public_key: [u8; 32] = bytes(&group.public_key.pk).try_into().unwrap();
        let pem = public_keys(group.public_key_pem.as_bytes()).unwrap();
        assert_eq!(pem.keys(), [Jwk::from_public_key(&public_key).unwrap()]);
        let set = serde_json::json!({ "keys": [group.public_key_jwk] }).to_string();
        let jwks = Jwks::from_json(set.as_bytes()).unwrap();
        assert_eq!(jwks.keys()[0].public_key(), &public_key);
    }
}

/// Checks that the verifier refuses all JWS vectors. None is signed with Ed25519, so even the valid
/// ones must be refused.
///
/// Each vector is tried unchanged, and again with a signature of our own. That signature is made
/// with a key that the verifier knows under the vector's `kid`, so only the header is left as a
/// reason to refuse it.
#[test]
fn no_wycheproof_jws_is_accepted_as_an_access_token() {
    let file = jws();
    let mint = TokenMint::fixed(1);
    let (clock, _) = Clock::manual(second(NOW));
    let mut checked = 0;
    for group in file.test_groups {
        for vector in group.tests {
            let id = format!("vector {} {}", vector.tc_id, vector.comment);
            let kid = group.private["kid"].as_str().unwrap_or("none");
            let key = Jwk::named(kid.to_owned(), mint.jwk().public_key()).unwrap();
            let verifier = Verifier::new(DEFAULT_ISSUER, DEFAULT_AUDIENCE, Jwks::from(key).into(), clock.clone());
            assert_eq!(verifier.verify(&vector.jws), Err(TokenError::Invalid), "{id}");
            if let Some((signed, _)) = vector.jws.rsplit_once('.')
                && let Some((header, claims)) = signed.split_once('.')
            {
                let token = mint.sign_segments(header, claims);
                assert_eq!(verifier.verify(&token), Err(TokenError::Invalid), "{id}, signed by us");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, file.number_of_tests);
}

/// Checks that a valid vector is refused for its algorithm and for nothing earlier. Otherwise the
/// test above would say little about the parser. Malformed vectors must be refused before the
/// header is read.
#[test]
fn malformed_wycheproof_jws_are_refused_before_the_algorithm_is_checked() {
    /// Vectors with missing, empty or surplus segments; with the JSON serialization; with spaces,
    /// characters outside the alphabet or stray bits.
    const BAD_FORM: [u32; 47] = [
        3, 4, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 23, 24, 26, 27, 28, 29, 30, 35, 36, 38, 39, 41, 42, 43,
        44, 45, 341, 342, 343, 344, 360, 361, 362, 363, 364, 365, 366, 368, 369, 371, 374, 375,
    ];
    /// Vectors that Wycheproof considers valid, but whose form is refused here. The first six have
    /// an empty payload, which cannot hold claims. The others have a character outside the alphabet
    /// in the header or payload, which a lenient decoder may skip.
    const STRICTER: [u32; 8] = [259, 264, 268, 272, 320, 325, 372, 373];
    let (mut bad_form, mut stricter) = (BTreeSet::new(), BTreeSet::new());
    for vector in jws().test_groups.into_iter().flat_map(|group| group.tests) {
        let is_valid = vector.result == Verdict::Valid;
        let decoded = Segments::split(&vector.jws).and_then(|segments| {
            compact::decode(segments.claims)?;
            compact::decode(segments.signature)?;
            compact::decode(segments.header)
        });
        match decoded.map(|header| header::kid(&header)) {
            None if is_valid => assert!(stricter.insert(vector.tc_id)),
            None => assert!(bad_form.insert(vector.tc_id)),
            Some(Ok(kid)) => panic!("vector {}: the header is one of ours and names {kid}", vector.tc_id),
            Some(Err(refused)) => assert!(!is_valid || refused == "alg", "vector {}: {refused}", vector.tc_id),
        }
    }
    assert_eq!(bad_form, BTreeSet::from(BAD_FORM));
    assert_eq!(stricter, BTreeSet::from(STRICTER));
}

/// Checks that the keys of the JWS vectors, which are RSA, EC and symmetric ones, are not accepted.
/// A set that holds a private key is an error. A set that holds only a public key for another
/// algorithm has no key to verify with.
#[test]
fn no_key_of_a_wycheproof_jws_is_accepted() {
    for group in jws().test_groups {
        let read = |key: &Value| Jwks::from_json(serde_json::json!({ "keys": [key] }).to_string().as_bytes());
        assert_eq!(read(&group.private), Err(KeyError::PrivateKey));
        if let Some(public) = &group.public {
            assert_eq!(read(public), Err(KeyError::Empty));
        }
    }
}
