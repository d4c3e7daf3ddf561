//! ID tokens that are forged, altered, or meant for others.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::auth::v1::IdTokenProof;
use serde_json::{Value, json};
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::{Code, Status};

use crate::support::{
    Server,
    callers::{is, refusal},
    count,
    provider::{NAME, Provider, SigningKey, server_with},
};

/// A server, and a provider that publishes one P-256 key.
struct Bench {
    server: Server,
    provider: Provider,
    /// The published key, as a JSON Web Key.
    jwk: Value,
    /// Bytes of the published key.
    public: Vec<u8>,
    /// A good header.
    header: Value,
}

impl Bench {
    async fn new(database: TestDatabase) -> Self {
        let key = SigningKey::p256("known");
        let (jwk, public, header) = (key.jwk(), key.public_bytes(), key.header());
        let provider = Provider::with_keys(vec![key]).await;
        let server = server_with(database, &[provider.entry(&json!({}))], &[]).await;
        Self {
            server,
            provider,
            jwk,
            public,
            header,
        }
    }

    /// Presents the token that `forge` makes of good claims.
    async fn present(&self, forge: impl FnOnce(Value) -> String) -> Result<(), Status> {
        let started = self.server.start_external(NAME).await;
        let now = self.server.clock.clock().now();
        let claims = self.provider.claims("alice", &started.provider_nonce, now);
        let proof = IdTokenProof {
            provider: NAME.to_owned(),
            id_token: forge(claims),
            nonce: started.nonce,
        };
        self.server.login_external(&proof).await.map(drop)
    }

    async fn assert_refused(&self, what: &str, forge: impl FnOnce(Value) -> String) {
        let refused = self.present(forge).await;
        assert_eq!(
            refusal(refused),
            is(Code::Unauthenticated, "ID_TOKEN_INVALID"),
            "{what}"
        );
    }

    /// Signs with the published key.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.provider.sign_text(&header.to_string(), &claims.to_string())
    }
}

/// Returns the signed part of a token.
fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()))
}

fn base64url(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().expect("an object").remove(name);
    value
}

#[on_both_backends]
async fn forged_id_tokens_are_refused(database: TestDatabase) {
    let bench = Bench::new(database).await;
    let (thief, stranger) = (SigningKey::p256("known"), SigningKey::p256("unknown"));
    bench
        .assert_refused("another key of the same id", |claims| {
            thief.sign(&thief.header(), &claims)
        })
        .await;
    bench
        .assert_refused("an unknown key", |claims| stranger.sign(&stranger.header(), &claims))
        .await;
    let other = SigningKey::ed25519("known");
    bench
        .assert_refused("a key of another kind", |claims| other.sign(&other.header(), &claims))
        .await;
    for alg in ["none", "None", "nOnE", ""] {
        let header = with(bench.header.clone(), "alg", json!(alg));
        bench
            .assert_refused(alg, |claims| format!("{}.AA", unsigned(&header, &claims)))
            .await;
    }
    let header = with(bench.header.clone(), "alg", json!("HS256"));
    for secret in [bench.public.clone(), bench.jwk.to_string().into_bytes()] {
        bench
            .assert_refused("HS256 by the public key", |claims| {
                let signed = unsigned(&header, &claims);
                let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
                format!("{signed}.{}", base64url(mac))
            })
            .await;
    }
    let db = bench.server.database.db();
    assert_eq!(count(db, "users").await, 0);
    let recorded = "audit_events WHERE action = 'session.login' AND reason = 'ID_TOKEN_INVALID'";
    assert_eq!(count(db, recorded).await, 9);
    bench
        .present(|claims| bench.sign(&bench.header, &claims))
        .await
        .expect("the genuine one");
}

#[on_both_backends]
async fn what_an_honest_key_signs_is_refused_unless_it_is_for_us(database: TestDatabase) {
    let key = SigningKey::p256("known");
    let provider = Provider::with_keys(vec![key]).await;
    let server = server_with(database, &[provider.entry(&json!({}))], &[]).await;
    let now = server.clock.clock().now().as_seconds();
    let good = |name: &'static str, member: Value| (name, Some(member));
    for (name, member, is_good) in [
        good("iss", json!("https://accounts.google.com")),
        good("iss", json!(format!("{}/", provider.issuer()))),
        good("aud", json!("another client")),
        good("aud", json!([])),
        good("aud", json!(["page", "another client"])),
        good("aud", json!(7)),
        good("azp", json!("another client")),
        good("azp", json!(7)),
        good("nonce", json!("another nonce")),
        good("sub", json!("")),
        good("sub", json!(7)),
        good("sub", json!("s".repeat(256))),
        good("sub", json!("a\u{0}b")),
        good("exp", json!(now - 30)),
        good("exp", json!("9999999999")),
        good("exp", json!(9_999_999_999.5)),
        good("exp", json!(-1)),
        good("iat", json!(now + 31)),
        good("iat", json!("now")),
        good("nbf", json!(now + 31)),
        good("nbf", json!(null)),
        good("auth_time", json!("yesterday")),
        ("iss", None),
        ("aud", None),
        ("sub", None),
        ("exp", None),
        ("iat", None),
        ("nonce", None),
    ]
    .map(|(name, member)| (name, member, false))
    .into_iter()
    .chain([
        // Up to the allowance for clocks that differ.
        ("exp", Some(json!(now - 29)), true),
        ("iat", Some(json!(now + 30)), true),
        ("nbf", Some(json!(now + 30)), true),
        ("aud", Some(json!(["page"])), true),
        ("azp", Some(json!("app")), true),
        ("unknown", Some(json!({"a": [1]})), true),
    ]) {
        let started = server.start_external(NAME).await;
        let claims = provider.claims("alice", &started.provider_nonce, server.clock.clock().now());
        let claims = match &member {
            Some(member) => with(claims, name, member.clone()),
            None => without(claims, name),
        };
        let proof = IdTokenProof {
            provider: NAME.to_owned(),
            id_token: provider.sign(&claims),
            nonce: started.nonce,
        };
        let answer = server.login_external(&proof).await;
        if is_good {
            answer.unwrap_or_else(|error| panic!("{name} {member:?}: {error}"));
        } else {
            let expected = is(Code::Unauthenticated, "ID_TOKEN_INVALID");
            assert_eq!(refusal(answer), expected, "{name} {member:?}");
        }
    }
    // Two audiences of ours need the party for which the token was issued.
    let both = json!({"aud": ["page", "app"]});
    let refused = server
        .login_external(&server.proof(&provider, "alice", &both).await)
        .await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "ID_TOKEN_INVALID"));
    let both = json!({"aud": ["page", "app"], "azp": "page"});
    let proof = server.proof(&provider, "alice", &both).await;
    server.login_external(&proof).await.expect("logged in");
}

#[on_both_backends]
async fn headers_with_anything_more_than_a_key_and_an_algorithm_are_refused(database: TestDatabase) {
    let bench = Bench::new(database).await;
    for (name, member) in [
        ("jwk", bench.jwk.clone()),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!(["AA"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("typ", json!("at+jwt")),
        ("typ", json!(7)),
        ("alg", json!("ES384")),
        ("alg", json!("RS256")),
        ("alg", json!(["ES256"])),
        ("kid", json!("../../etc/passwd")),
        ("kid", json!("' OR 1=1 --")),
        ("kid", json!("k".repeat(4096))),
        ("kid", json!("")),
        ("kid", json!(7)),
    ] {
        let header = with(bench.header.clone(), name, member);
        bench
            .assert_refused(&header.to_string(), |claims| bench.sign(&header, &claims))
            .await;
    }
    for name in ["alg", "kid"] {
        let header = without(bench.header.clone(), name);
        bench.assert_refused(name, |claims| bench.sign(&header, &claims)).await;
    }
    for header in [
        without(bench.header.clone(), "typ"),
        with(bench.header.clone(), "typ", json!("jwt")),
        with(bench.header.clone(), "x5t", json!("AAAA")),
    ] {
        let answer = bench.present(|claims| bench.sign(&header, &claims)).await;
        answer.unwrap_or_else(|error| panic!("{header}: {error}"));
    }
    // For all of this, the keys are loaded once.
    assert_eq!(bench.provider.loads(), 1);
}

#[on_both_backends]
async fn malformed_id_tokens_are_refused_before_anything_is_loaded(database: TestDatabase) {
    let bench = Bench::new(database).await;
    let good = |claims: &Value| bench.sign(&bench.header, claims);
    let alter = |alter: fn(&str) -> String| move |claims: Value| alter(&good(&claims));
    bench
        .assert_refused("four segments", alter(|token| format!("{token}.AA")))
        .await;
    bench
        .assert_refused("padding", alter(|token| format!("{token}=")))
        .await;
    bench
        .assert_refused("white space", alter(|token| format!("{token} ")))
        .await;
    let cut = |token: &str| token[..=token.rfind('.').expect("a dot")].to_owned();
    bench.assert_refused("no signature", alter(cut)).await;
    bench.assert_refused("JSON", |claims| claims.to_string()).await;
    let header = bench.header.to_string();
    let doubled = format!("{{\"alg\":\"none\",{}", &header[1..]);
    bench
        .assert_refused("a header member twice", |claims| {
            bench.provider.sign_text(&doubled, &claims.to_string())
        })
        .await;
    assert_eq!(bench.provider.loads(), 0);
    bench
        .assert_refused("a claim twice", |claims| {
            let claims = claims.to_string();
            let doubled = format!("{{\"sub\":\"mallory\",{}", &claims[1..]);
            bench.provider.sign_text(&header, &doubled)
        })
        .await;
    let long = bench
        .present(|claims| good(&with(claims, "padding", json!("x".repeat(8192)))))
        .await
        .expect_err("too long");
    assert_eq!(
        (long.code(), bad_fields(&long)),
        (Code::InvalidArgument, vec!["id_token".to_owned()])
    );
    bench.present(|claims| good(&claims)).await.expect("the genuine one");
}

#[on_both_backends]
async fn our_own_tokens_are_no_id_tokens_and_a_flood_loads_the_keys_once_in_30_seconds(database: TestDatabase) {
    let bench = Bench::new(database).await;
    let tokens = bench.server.register("ann").await.tokens.expect("tokens");
    bench
        .assert_refused("an access token", |_| tokens.access_token.clone())
        .await;
    bench
        .assert_refused("a refresh token", |_| tokens.refresh_token.clone())
        .await;
    let stranger = SigningKey::p256("unknown");
    for (pause, loads) in [(0, 1), (29, 1), (2, 2), (0, 2)] {
        bench.server.clock.advance(Duration::from_secs(pause));
        for _ in 0..5 {
            bench
                .assert_refused("an unknown key", |claims| stranger.sign(&stranger.header(), &claims))
                .await;
        }
        assert_eq!(bench.provider.loads(), loads, "after {pause} s");
    }
}
