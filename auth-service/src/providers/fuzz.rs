//! Fuzz targets for what comes from providers, and from those who pretend to be one: the header and
//! the claims of an ID token, and sets of keys.

use std::collections::BTreeMap;

use base::clock::Timestamp;
use serde_json::{Value, json};
use testing::fuzz::Target;

use super::{
    claims::{Header, IdToken},
    file,
    keys::ProviderKeys,
    spec::{Algorithm, ProviderSpec},
};

const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);
const NONCE: &str = "n1.1795219800.local.AAAA.BBBB";

fn spec() -> ProviderSpec {
    let json = r#"[{"name": "local", "issuer": "https://id.example", "audiences": ["page", "app"],
        "algorithms": ["ES256", "EdDSA"], "trusts_email": true}]"#;
    file::parse(json).expect("a good file").remove(0)
}

/// Parses an object as a reader without our checks would.
fn members(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).expect("an object")
}

#[test]
fn fuzz_id_token_headers() {
    let spec = spec();
    Target {
        corpus: include_str!("fuzz/id_token_headers.txt"),
        genuine: &[
            br#"{"alg":"ES256","kid":"first","typ":"JWT"}"#,
            br#"{"kid":"first","alg":"EdDSA","x5t":"AAAA"}"#,
        ],
        pieces: &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\u0061",
            "null",
            "0",
            " ",
            "\"alg\":\"none\",",
            "\"alg\":\"HS256\",",
            "\"jwk\":{},",
            "\"crit\":[\"exp\"],",
            "\"typ\":\"at+jwt\",",
        ],
    }
    .texts(|text| {
        let Ok(header) = Header::parse(text.as_bytes(), &spec) else {
            return;
        };
        let members = members(text);
        assert!(matches!(header.algorithm, Algorithm::Es256 | Algorithm::EdDsa));
        assert_eq!(members["alg"], header.algorithm.name());
        assert_eq!(members["kid"], header.kid);
        let known = ["alg", "kid", "typ", "x5t", "x5t#S256"];
        assert!(members.keys().all(|name| known.contains(&name.as_str())), "{text}");
    });
}

#[test]
fn fuzz_id_token_claims() {
    let spec = spec();
    let now = NOW.as_seconds();
    let claims = json!({
        "iss": "https://id.example", "sub": "alice", "aud": "page", "nonce": NONCE, "iat": now, "exp": now + 60,
        "email": "alice@example.test", "email_verified": true,
    });
    let several = json!({
        "iss": "https://id.example", "sub": "alice", "aud": ["page", "app"], "azp": "app", "nonce": NONCE, "iat": now,
        "nbf": now, "exp": now + 60, "auth_time": now - 60,
    });
    Target {
        corpus: include_str!("fuzz/id_token_claims.txt"),
        genuine: &[claims.to_string().as_bytes(), several.to_string().as_bytes()],
        pieces: &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\u0000",
            "null",
            "true",
            "-1",
            "1e9",
            "18446744073709551616",
            "\"sub\":\"mallory\",",
            "\"aud\":\"other\",",
            "\"azp\":\"other\",",
        ],
    }
    .texts(|text| {
        let Ok(token) = IdToken::parse(text.as_bytes(), &spec, NONCE, NOW) else {
            return;
        };
        let members = members(text);
        assert_eq!(members["iss"], spec.issuer);
        assert_eq!(members["sub"], token.subject);
        assert_eq!(members["nonce"], NONCE);
        let audiences = match &members["aud"] {
            Value::Array(names) => names.clone(),
            name => vec![name.clone()],
        };
        assert!(audiences.iter().all(|name| name == "page" || name == "app"), "{text}");
        assert!(token.auth_time <= NOW, "{text}");
        if token.email.is_some() {
            assert!(matches!(
                &members["email_verified"],
                Value::Bool(true) | Value::String(_)
            ));
        }
    });
}

#[test]
fn fuzz_key_sets() {
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let set = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "a", "use": "sig", "alg": "EdDSA"},
        {"kty": "EC", "crv": "P-256", "x": X, "y": X, "kid": "b", "key_ops": ["verify"]},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "c"},
    ]});
    Target {
        corpus: include_str!("fuzz/key_sets.txt"),
        genuine: &[set.to_string().as_bytes()],
        pieces: &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\u0061",
            "null",
            "0",
            "\"d\":\"AA\",",
            "\"k\":\"AA\",",
            "\"kid\":\"a\",",
        ],
    }
    .texts(|text| {
        let Ok(keys) = ProviderKeys::parse(text.as_bytes(), &Algorithm::ALL) else {
            return;
        };
        // A key that an alteration made verifies nothing that it did not sign.
        for kid in ["a", "b", "c"] {
            let Some(key) = keys.get(kid) else { continue };
            for algorithm in Algorithm::ALL {
                assert!(!key.verifies(algorithm, b"message", &"A".repeat(86)), "{text}");
            }
        }
    });
}
