//! Fuzz targets for the parser of access tokens: its segments, its header and its claims.

use std::collections::BTreeMap;

use base::testing::fuzz::Target;
use serde_json::Value;

use super::{
    super::{
        DEFAULT_AUDIENCE, DEFAULT_ISSUER, LEEWAY,
        compact::{self, Segments},
    },
    Bench, NOW, object,
};

#[test]
fn fuzz_access_tokens() {
    let bench = Bench::new();
    let (good, other) = (bench.good_token(), bench.another_token());
    let segments = Segments::split(&good).unwrap();
    Target {
        corpus: include_str!("fuzz/access_tokens.txt"),
        genuine: &[
            good.as_bytes(),
            other.as_bytes(),
            segments.header.as_bytes(),
            segments.claims.as_bytes(),
            segments.signature.as_bytes(),
        ],
        pieces: &[
            ".", "..", "=", "==", "+", "/", "A", "-", "_", " ", "\n", "\0", "Bearer ", "\u{e9}",
        ],
    }
    .texts(|text| {
        // No mutation of a genuine token is valid, and no combination of two genuine tokens is a
        // third.
        assert_eq!(bench.verify(text).is_ok(), text == good || text == other);
        let Some(segments) = Segments::split(text) else {
            return;
        };
        assert_eq!(format!("{}.{}", segments.signed, segments.signature), text);
        assert_eq!(format!("{}.{}", segments.header, segments.claims), segments.signed);
        for segment in [segments.header, segments.claims, segments.signature] {
            // Each byte string has exactly one encoding.
            if let Some(bytes) = compact::decode(segment) {
                assert_eq!(compact::encode(&bytes), segment);
            }
        }
    });
}

/// Signs each header with the genuine key, so that only its content can be the reason for a
/// refusal.
#[test]
fn fuzz_headers() {
    let bench = Bench::new();
    let good = bench.mint.header();
    let inner = &good[1..good.len() - 1];
    let members: BTreeMap<String, Value> = serde_json::from_str(&good).unwrap();
    Target {
        corpus: include_str!("fuzz/headers.txt"),
        genuine: &[good.as_bytes(), inner.as_bytes()],
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
            "1e9",
            " ",
            "\u{feff}",
            "\"alg\":\"none\",",
            "\"jwk\":{},",
            "\"crit\":[\"b64\"],",
            "\"b64\":false,",
            "\"kid\":\"\",",
            "EdDSA",
            "at+jwt",
            "JWT",
            "HS256",
        ],
    }
    .texts(|text| {
        if bench.verify(&bench.sign_header(text)).is_ok() {
            assert_eq!(serde_json::from_str::<BTreeMap<String, Value>>(text).unwrap(), members);
            assert_eq!(
                text.matches(':').count(),
                members.len(),
                "a member is named twice: {text}"
            );
        }
    });
}

/// Signs each set of claims with the genuine key.
#[test]
fn fuzz_claims() {
    let bench = Bench::new();
    let good = object(&bench.members());
    let inner = &good[1..good.len() - 1];
    // Each differs from the genuine claims in one member.
    let others = [
        bench.with("iss", "\"another\""),
        bench.with("aud", "\"another\""),
        bench.with("aud", "[\"another\"]"),
        bench.with("exp", "1"),
        bench.with("nbf", "4000000000"),
        bench.with("iat", "4000000000"),
        bench.with("ver", "-1"),
    ];
    let genuine: Vec<&[u8]> = [good.as_bytes(), inner.as_bytes()]
        .into_iter()
        .chain(others.iter().map(String::as_bytes))
        .collect();
    Target {
        corpus: include_str!("fuzz/claims.txt"),
        genuine: &genuine,
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
            "-1",
            "0",
            "1.5",
            "1e400",
            "18446744073709551615",
            "9223372036854775807",
            "true",
            "\"exp\":0,",
            "\"sub\":",
            "\"roles\":[\"superuser\"],",
            "\"ver\":",
            " ",
        ],
    }
    .texts(|text| {
        let Ok(principal) = bench.verify(&bench.sign_claims(text)) else {
            return;
        };
        let claims: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
        assert_eq!(claims["iss"], DEFAULT_ISSUER);
        let is_ours = |audience: &Value| audience == DEFAULT_AUDIENCE;
        let audiences = claims["aud"].as_array().map(Vec::as_slice);
        assert!(
            audiences
                .unwrap_or(std::slice::from_ref(&claims["aud"]))
                .iter()
                .any(is_ours)
        );
        assert_eq!(claims["preferred_username"], principal.login());
        assert!(claims["exp"].as_u64().unwrap() + LEEWAY.as_secs() > NOW);
        assert!(claims["nbf"].as_u64().unwrap() <= NOW + LEEWAY.as_secs());
        assert!(claims["iat"].as_u64().unwrap() <= NOW + LEEWAY.as_secs());
        assert!(claims["ver"].as_i64().unwrap() >= 0);
        let sub: base::ids::UserId = claims["sub"].as_str().unwrap().parse().unwrap();
        assert_eq!(sub, principal.user_id());
        let roles: Vec<&str> = claims["roles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|role| role.as_str().unwrap())
            .collect();
        assert!(roles.iter().all(|role| principal.has_role(role)));
        assert!(principal.has_role("superuser") == roles.contains(&"superuser"));
    });
}
