//! Providers that are down, slow or hostile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use proto::auth::v1::IdTokenProof;
use serde_json::json;
use testing::{TestDatabase, on_both_backends};
use tokio::net::TcpListener;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{external, login_as};
use crate::support::{
    callers::{is, refusal},
    provider::{Fault, Provider, SigningKey, server_with},
};

#[on_both_backends]
async fn a_provider_that_is_down_affects_its_own_users_alone(database: TestDatabase) {
    let (down, up) = (Provider::start().await, Provider::start().await);
    down.set_fault(Fault::Down);
    let entries = [up.entry(&json!({})), down.entry(&json!({"name": "down"}))];
    let server = server_with(database, &entries, &[]).await;
    let proof = async || {
        let started = server.start_external("down").await;
        let claims = down.claims("alice", &started.provider_nonce, server.clock.clock().now());
        IdTokenProof {
            provider: "down".to_owned(),
            id_token: down.sign(&claims),
            nonce: started.nonce,
        }
    };
    let refused = server.login_external(&proof().await).await.expect_err("down");
    let expected = is(Code::Unavailable, "IDENTITY_PROVIDER_UNAVAILABLE");
    assert_eq!(refusal(Err::<(), _>(refused.clone())), expected);
    let retry = refused.get_details_retry_info().expect("a RetryInfo").retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(30)));
    login_as(&server, &up, "alice").await;
    server.register("ann").await;
    // The same ID token is good once the provider is back.
    down.set_fault(Fault::None);
    let proof = proof().await;
    let early = server.login_external(&proof).await;
    assert_eq!(refusal(early), expected, "asked at most once in 30 s");
    server.clock.advance(Duration::from_secs(31));
    server.login_external(&proof).await.expect("logged in");
}

#[on_both_backends]
async fn known_keys_outlast_an_outage_and_a_rotated_key_does_not_wait_for_an_hour(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    login_as(&server, &provider, "alice").await;
    provider.set_fault(Fault::Down);
    server.clock.advance(Duration::from_hours(30));
    login_as(&server, &provider, "alice").await;
    // A new key cannot be learned meanwhile. Its users are told to come back, and others get in.
    server.clock.advance(Duration::from_secs(31));
    let before = server.proof(&provider, "alice", &json!({})).await;
    provider.rotate(vec![SigningKey::ed25519("second")]);
    let after = server.proof(&provider, "alice", &json!({})).await;
    let refused = server.login_external(&after).await;
    assert_eq!(refusal(refused), is(Code::Unavailable, "IDENTITY_PROVIDER_UNAVAILABLE"));
    server
        .login_external(&before)
        .await
        .expect("logged in by the known key");
    provider.set_fault(Fault::None);
    server.clock.advance(Duration::from_secs(31));
    let after = server.proof(&provider, "alice", &json!({})).await;
    server.login_external(&after).await.expect("logged in by the new key");
}

#[on_both_backends]
async fn a_provider_that_does_not_answer_is_given_up_and_holds_up_nobody_else(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    provider.set_fault(Fault::Silent);
    let mut proofs = Vec::new();
    for _ in 0..20 {
        proofs.push(server.proof(&provider, "alice", &json!({})).await);
    }
    let began = Instant::now();
    let logins = join_all(proofs.iter().map(|proof| server.login_external(proof)));
    let other = async {
        server.register("ann").await;
        began.elapsed()
    };
    let (logins, other) = tokio::join!(logins, other);
    assert!(other < Duration::from_secs(4), "{other:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    for login in logins {
        assert_eq!(refusal(login), is(Code::Unavailable, "IDENTITY_PROVIDER_UNAVAILABLE"));
    }
    assert!(provider.loads() <= 1);
}

#[on_both_backends]
async fn documents_that_are_huge_moved_or_of_another_issuer_are_not_used(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    for fault in [Fault::Huge, Fault::Moved, Fault::Impostor] {
        provider.set_fault(fault);
        let proof = server.proof(&provider, "alice", &json!({})).await;
        let refused = server.login_external(&proof).await;
        let expected = is(Code::Unavailable, "IDENTITY_PROVIDER_UNAVAILABLE");
        assert_eq!(refusal(refused), expected, "{fault:?}");
        server.clock.advance(Duration::from_secs(31));
    }
    provider.set_fault(Fault::None);
    login_as(&server, &provider, "alice").await;
}

#[on_both_backends]
async fn an_issuer_on_a_private_address_is_not_asked_unless_the_file_allows_it(database: TestDatabase) {
    let provider = Provider::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    // A name is judged by what it resolves to, and an address as it is.
    let at = |name: &str, host: &str, is_allowed: bool| {
        provider.entry(&json!({
            "name": name,
            "issuer": format!("https://{name}.example.com"),
            "jwks_url": format!("https://{host}:{port}/keys"),
            "allow_private_addresses": is_allowed,
        }))
    };
    let entries = [
        at("by-name", "localhost", false),
        at("by-address", "127.0.0.1", false),
        at("mapped", "[::ffff:127.0.0.1]", false),
        at("allowed", "127.0.0.1", true),
    ];
    let server = server_with(database, &entries, &[]).await;
    for (name, is_asked) in [
        ("by-name", false),
        ("by-address", false),
        ("mapped", false),
        ("allowed", true),
    ] {
        let started = server.start_external(name).await;
        let mut claims = provider.claims("alice", &started.provider_nonce, server.clock.clock().now());
        claims["iss"] = json!(format!("https://{name}.example.com"));
        let proof = IdTokenProof {
            provider: name.to_owned(),
            id_token: provider.sign(&claims),
            nonce: started.nonce,
        };
        let refused = server.login_external(&proof).await;
        let expected = is(Code::Unavailable, "IDENTITY_PROVIDER_UNAVAILABLE");
        assert_eq!(refusal(refused), expected, "{name}");
        assert_eq!(connections.load(Ordering::SeqCst) > 0, is_asked, "{name}");
    }
}
