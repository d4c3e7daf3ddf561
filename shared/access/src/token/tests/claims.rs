//! Tests of tokens with a valid signature and faulty claims.

use std::time::Duration;

use base::clock::Clock;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    super::{AcceptedAudiences, Acr, DEFAULT_ISSUER, FIRST_PARTY_CLIENT_ID, Jwks, KeySet, TokenError, Verifier},
    Bench, NOW, object, second,
};
use crate::testing::tokens::TokenMint;

const REQUIRED: [&str; 13] = [
    "iss",
    "aud",
    "sub",
    "exp",
    "iat",
    "nbf",
    "jti",
    "client_id",
    "sid",
    "ver",
    "roles",
    "preferred_username",
    "permissions",
];

/// Claims about the login, which the tokens of earlier versions and of services lack.
const OPTIONAL: [&str; 3] = ["auth_time", "amr", "acr"];

#[test]
fn every_claim_is_required_exactly_once_with_a_value() {
    let bench = Bench::new();
    assert_eq!(bench.members().len(), REQUIRED.len() + OPTIONAL.len());
    for claim in OPTIONAL {
        bench
            .verify(&bench.sign_claims(&bench.without(claim)))
            .expect("it may be absent");
    }
    for claim in REQUIRED {
        bench.refuses(&bench.sign_claims(&bench.without(claim)), claim);
    }
    for claim in REQUIRED.into_iter().chain(OPTIONAL) {
        bench.refuses(&bench.sign_claims(&bench.with(claim, "null")), claim);
        bench.refuses(&bench.sign_claims(&bench.with(claim, "{}")), claim);

        let (_, value) = bench.members().into_iter().find(|(name, _)| name == claim).unwrap();
        let once = object(&bench.members());
        let (rest, _) = once.rsplit_once('}').unwrap();
        bench.refuses(&bench.sign_claims(&format!(r#"{rest},"{claim}":{value}}}"#)), claim);
        let escaped = format!("\\u{:04x}{}", u32::from(claim.as_bytes()[0]), &claim[1..]);
        bench.refuses(
            &bench.sign_claims(&format!(r#"{rest},"{escaped}":{value}}}"#)),
            &escaped,
        );
    }
}

#[test]
fn a_principal_has_the_claims_of_its_token() {
    let mut bench = Bench::new();
    let accepted = AcceptedAudiences::deployment("shop").or_service("orders");
    let (clock, _) = Clock::manual(second(NOW));
    bench.verifier = Verifier::new(DEFAULT_ISSUER, accepted, bench.mint.key_set(), clock);
    for (audience, names, wanted) in [
        (r#""orders""#, &["orders"][..], None),
        (r#"["shop","orders"]"#, &["shop", "orders"], Some("orders")),
    ] {
        let principal = bench.verify(&bench.sign_claims(&bench.with("aud", audience)));
        let principal = principal.expect("a good token");
        assert_eq!(principal.audiences(), names);
        assert_eq!(principal.wanted_audience(), wanted);
        assert_eq!(principal.client_id(), FIRST_PARTY_CLIENT_ID);
        assert_eq!(principal.session_id(), bench.claims.sid);
        assert_eq!((principal.user_id(), principal.login()), (bench.claims.sub, "ada"));
        assert_eq!(principal.auth_time(), Some(second(NOW)));
        assert_eq!(principal.auth_methods(), ["pwd"]);
        assert_eq!(principal.acr(), Some(Acr::OneFactor));
    }
}

#[test]
fn unknown_claims_are_ignored_unless_one_is_repeated() {
    let bench = Bench::new();
    let claims = object(&bench.members());
    let (rest, _) = claims.rsplit_once('}').unwrap();
    bench
        .verify(&bench.sign_claims(&format!(r#"{rest},"scope":"a","Exp":1,"":[{{"a":1}}]}}"#)))
        .unwrap();
    bench.refuses(
        &bench.sign_claims(&format!(r#"{rest},"scope":"a","scope":"a"}}"#)),
        "scope twice",
    );
}

#[test]
fn claims_of_a_wrong_type_or_value_are_refused() {
    let bench = Bench::new();
    for (claim, values) in [
        (
            "iss",
            &[
                "\"\"",
                "\"Auth-Service\"",
                "\"auth-service/\"",
                "\"auth-service \"",
                "[\"auth-service\"]",
                "1",
            ][..],
        ),
        (
            "aud",
            &[
                "\"\"",
                "\"another\"",
                "\"GAME-BACKEND\"",
                "[\"another\"]",
                "[\"game-backend\",1]",
                "{\"0\":\"game-backend\"}",
                "1",
                "[]",
            ],
        ),
        (
            "sub",
            &["\"\"", "\"ada\"", "\"0190b6e49f6d7c3a8d2e5b1f0c9a7e42\"", "7", "[]"],
        ),
        ("sid", &["\"\"", "\"session\"", "7", "false"]),
        ("jti", &["\"\"", "7", "[\"a\"]"]),
        ("client_id", &["\"\"", "7", "[\"first-party\"]"]),
        ("ver", &["-1", "0.0", "\"0\"", "true", "9223372036854775808"]),
        ("roles", &["\"admin\"", "[1]", "[null]", "{\"admin\":true}"]),
        ("permissions", &["\"users:read\"", "[[]]"]),
        ("preferred_username", &["1", "[\"ada\"]"]),
        (
            "auth_time",
            &["-1", "1.5", "\"1700000000\"", "true", "9223372036854775807"],
        ),
        ("amr", &["\"pwd\"", "[1]", "[null]"]),
        ("acr", &["1", "[\"1\"]", "true"]),
    ] {
        for value in values {
            let (token, what) = (
                bench.sign_claims(&bench.with(claim, value)),
                format!("{claim} = {value}"),
            );
            // A malformed audience is not another one.
            let is_malformed = value.contains('1') || value.starts_with('{');
            if claim == "aud" && !is_malformed {
                bench.refuses_audience(&token, &what);
            } else {
                bench.refuses(&token, &what);
            }
        }
    }
}

#[test]
fn times_are_whole_seconds_and_not_negative() {
    let bench = Bench::new();
    for claim in ["exp", "iat", "nbf"] {
        for value in [
            &format!("\"{NOW}\""),
            &format!("{NOW}.0"),
            &format!("{NOW}.5"),
            &format!("[{NOW}]"),
            "1.7e9",
            "17e8",
            "-1",
            "-0",
            "-0.0",
            "true",
            "\"\"",
            "0x10",
            "01",
            "NaN",
            "1e400",
            "9223372036855",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999999999",
        ] {
            bench.refuses(
                &bench.sign_claims(&bench.with(claim, value)),
                &format!("{claim} = {value}"),
            );
        }
    }
}

#[test]
fn the_leeway_is_30_seconds_and_no_more() {
    let micro = Duration::from_micros(1);
    let leeway = Duration::from_secs(30);
    let bench = Bench::new();
    let exp = second(bench.claims.exp);
    let valid = Ok(());
    for (claim, now, answer) in [
        ("exp", exp, valid),
        ("exp", exp.plus(leeway).minus(micro), valid),
        ("exp", exp.plus(leeway), Err(TokenError::Expired)),
        ("exp", exp.plus(leeway).plus(micro), Err(TokenError::Expired)),
        (
            "exp",
            second(NOW).plus(Duration::from_hours(24 * 365)),
            Err(TokenError::Expired),
        ),
        ("nbf", second(NOW), valid),
        ("nbf", second(NOW).minus(leeway), valid),
        (
            "nbf",
            second(NOW).minus(leeway).minus(micro),
            Err(TokenError::NotYetValid(micro)),
        ),
        ("iat", second(NOW).minus(leeway), valid),
        (
            "iat",
            second(NOW).minus(leeway).minus(Duration::from_secs(270)),
            Err(TokenError::NotYetValid(Duration::from_secs(270))),
        ),
    ] {
        // Each of `nbf` and `iat` must be enough to refuse the token, so the other lies long ago.
        let claims = match claim {
            "nbf" => bench.with("iat", "0"),
            "iat" => bench.with("nbf", "0"),
            _ => object(&bench.members()),
        };
        let token = bench.sign_claims(&claims);
        bench.hand.set(now);
        assert_eq!(bench.verify(&token).map(drop), answer, "{claim} at {now:?}");
    }
}

#[test]
fn a_cached_token_expires_like_any_other() {
    let bench = Bench::new();
    let token = bench.good_token();
    bench.verify(&token).unwrap();
    bench.hand.set(second(bench.claims.exp + 30));
    assert_eq!(bench.verify(&token), Err(TokenError::Expired));
    bench.hand.set(second(NOW - 31));
    let early = TokenError::NotYetValid(Duration::from_secs(1));
    assert_eq!(bench.verify(&token), Err(early));
}

#[test]
fn a_token_is_valid_again_once_a_clock_that_was_ahead_is_corrected() {
    let bench = Bench::new();
    let (token, unseen) = (bench.good_token(), bench.another_token());
    bench.verify(&token).unwrap();
    bench.hand.set(second(NOW).plus(Duration::from_hours(2)));
    for token in [&token, &unseen] {
        assert_eq!(bench.verify(token), Err(TokenError::Expired));
    }
    bench.hand.set(second(NOW));
    for token in [&token, &unseen] {
        bench.verify(token).unwrap();
    }
}

#[test]
fn an_expired_token_stays_expired_when_the_clock_is_set_back() {
    let bench = Bench::new();
    let token = bench.good_token();
    let before = second(bench.claims.exp).minus(Duration::from_mins(2));
    bench.hand.set(before);
    bench.verify(&token).unwrap();
    let unseen = bench.another_token();
    // The token was accepted with the leeway: 120 s until it expires, plus 30 s.
    bench.hand.advance(Duration::from_secs(149));
    bench.verify(&token).unwrap();
    bench.hand.set(before);
    // A stream that begins now ends at the moment from which calls are refused.
    let principal = bench.verify(&token).unwrap();
    assert_eq!(bench.verifier.time_left(&principal), Some(Duration::from_secs(1)));
    bench.hand.advance(Duration::from_secs(1));
    assert_eq!(bench.verifier.time_left(&principal), None);
    // The token stays expired even if the clock is set back to before the token was issued.
    for now in [before, second(NOW - 3600)] {
        bench.hand.set(now);
        assert_eq!(bench.verify(&token), Err(TokenError::Expired));
    }
    // A token that was not verified in the meantime has no recorded end.
    bench.hand.set(before);
    bench.verify(&unseen).unwrap();
}

#[test]
fn only_an_otherwise_valid_token_is_reported_as_expired() {
    let bench = Bench::new();
    bench.hand.set(second(bench.claims.exp + 60));
    let token = bench.good_token();
    assert_eq!(bench.verify(&token), Err(TokenError::Expired));
    let cut = &token[..token.len() - 8];
    bench.refuses(cut, "damaged");
    bench.refuses_audience(
        &bench.sign_claims(&bench.with("aud", "\"another\"")),
        "for another audience",
    );
    bench.refuses(&bench.sign_claims(&bench.with("jti", "\"\"")), "without an id");
    bench.refuses(&TokenMint::fixed(2).sign(&bench.claims), "of an unknown key");
}

#[test]
fn claims_must_be_one_json_object_in_utf_8() {
    let bench = Bench::new();
    let good = object(&bench.members());
    for claims in [
        "",
        "{}",
        "[]",
        "null",
        "7",
        "\"claims\"",
        &format!("[{good}]"),
        &format!("{good}{good}"),
        &format!("{good},"),
        &format!("{good}\0"),
        &format!("\u{feff}{good}"),
        &bench.with("deep", &"[".repeat(3_000)),
        &bench.with("deep", &format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))),
        &bench.with("half", r#""\ud800""#),
    ] {
        bench.refuses(&bench.sign_claims(claims), claims);
    }
    let mut bytes = bench.with("name", "\"x\"").into_bytes();
    let index = bytes.iter().rposition(|&byte| byte == b'x').unwrap();
    bytes[index] = 0xff;
    let token = bench.mint.sign_segments(
        &BASE64_URL_SAFE_NO_PAD.encode(bench.mint.header()),
        &BASE64_URL_SAFE_NO_PAD.encode(bytes),
    );
    bench.refuses(&token, "not UTF-8");
}

#[test]
fn a_service_token_needs_no_session() {
    let mut bench = Bench::new();
    bench.claims.client_id = "game-service".to_owned();
    bench.claims.sid = None;
    let principal = bench.verify(&bench.good_token()).unwrap();
    assert!(principal.is_service());
    assert_eq!(principal.session_id(), None);
}

#[test]
fn a_token_is_refused_once_its_key_is_removed() {
    let bench = Bench::new();
    let keys = bench.mint.key_set();
    let (clock, _hand) = Clock::manual(second(NOW));
    let verifier = Verifier::new("auth-service", "game-backend", keys.clone(), clock);
    let token = bench.good_token();
    let other = TokenMint::fixed(2);

    assert!(verifier.verify(&token).is_ok());
    keys.replace(Jwks::new(vec![other.jwk().clone(), bench.mint.jwk().clone()]).unwrap());
    assert!(verifier.verify(&token).is_ok(), "its key is still there");
    keys.replace(other.jwks());
    assert_eq!(verifier.verify(&token), Err(TokenError::Invalid));
    keys.replace(bench.mint.jwks());
    assert!(verifier.verify(&token).is_ok());
}

#[test]
fn replacing_a_key_under_the_same_kid_invalidates_its_tokens() {
    let bench = Bench::new();
    let named = |mint: &TokenMint| {
        let jwk = serde_json::to_string(mint.jwk()).unwrap();
        let jwk = jwk.replace(mint.jwk().kid(), "signing-key");
        Jwks::from_json(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap()
    };
    let keys = KeySet::from(named(&bench.mint));
    let (clock, _hand) = Clock::manual(second(NOW));
    let verifier = Verifier::new("auth-service", "game-backend", keys.clone(), clock);
    let header = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"signing-key"}"#;
    let token = bench.sign_header(header);
    assert!(verifier.verify(&token).is_ok());
    keys.replace(named(&TokenMint::fixed(2)));
    assert_eq!(verifier.verify(&token), Err(TokenError::Invalid));
}

#[test]
fn without_keys_every_token_is_refused() {
    let bench = Bench::new();
    let (clock, _hand) = Clock::manual(second(NOW));
    let verifier = Verifier::new("auth-service", "game-backend", KeySet::empty(), clock);
    assert_eq!(verifier.verify(&bench.good_token()), Err(TokenError::Invalid));
}
