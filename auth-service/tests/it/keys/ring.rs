//! Signing keys: publication, rotation and withdrawal.

use std::{collections::BTreeSet, time::Duration};

use access::token::{Jwks, KeySource};
use proto::auth::v1::{
    GetJwksRequest, GetMeRequest, IntrospectTokenRequest, RefreshAccessTokenRequest, RetireSigningKeyRequest,
    RotateSigningKeyRequest, SigningKey, signing_key::State,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, with_token},
};
use tonic::{Code, Status};

use crate::support::{START, Server, callers::eventually, rotate, settings};

#[on_both_backends]
async fn the_key_set_is_the_same_over_grpc_and_http(database: TestDatabase) {
    let server = Server::start(database).await;
    let by_rpc = server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect("keys")
        .into_inner();
    let by_rpc = Jwks::try_from(by_rpc).expect("public keys");
    let url = format!("http://{}/.well-known/jwks.json", server.http)
        .parse()
        .expect("a URL");
    let by_http = KeySource::JwksUrl(url).load().await.expect("keys");
    assert_eq!(by_rpc, by_http);
    assert_eq!(by_rpc.keys().len(), 1);
}

#[on_both_backends]
async fn the_server_secret_can_be_replaced(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").refresh_token;
    let before = server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect("keys")
        .into_inner();
    let new = secrecy::ExposeSecret::expose_secret(&auth_service::ServerSecrets::generate()).to_owned();
    let both = format!("{new}{}", server.secret);
    // With both secrets, everything made with the old one stays valid. Afterwards, the new secret
    // alone can read everything that is stored.
    let (_running, mut other) = server.replica_with(&both).await;
    let next = rotate(&mut other, &token, "").await.expect("rotated").refresh_token;
    let (_running, mut other) = server.replica_with(&new).await;
    rotate(&mut other, &next, "")
        .await
        .expect("rotated with only the new secret");
    let after = server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect("keys")
        .into_inner();
    assert_eq!(before, after);
}

#[on_both_backends]
async fn the_first_signing_key_is_created_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let before = server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect("keys")
        .into_inner();
    let token = server.register("ann").await.tokens.expect("tokens").refresh_token;
    // Another replica, or the same one after a restart, has the same keys and accepts the same
    // sessions.
    let (_running, mut other) = server.replica().await;
    rotate(&mut other, &token, "").await.expect("rotated");
    let after = server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect("keys")
        .into_inner();
    assert_eq!(before, after);
}

#[on_both_backends]
async fn key_rotation_publishes_then_activates_the_next_key_and_removes_the_old_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = server.superuser().await;
    let old = kid(&admin);
    let rotate = || server.rotate_signing_key(&admin);
    let next = rotate().await;
    assert_eq!(next.state(), State::Next);
    assert_eq!(rotate().await.kid, next.kid, "there is one next key");
    assert_eq!(server.kids().await, BTreeSet::from([old.clone(), next.kid.clone()]));
    assert_eq!(
        kid(&server.login("root").await.access_token),
        old,
        "it does not sign yet"
    );

    server.clock.advance(Duration::from_secs(3600));
    let signed = eventually(async || {
        let token = server.login("root").await.access_token;
        (kid(&token) == next.kid).then_some(token)
    });
    let token = signed.await;
    server.me(&token).await.expect("good");
    assert_eq!(
        server.kids().await,
        BTreeSet::from([old.clone(), next.kid.clone()]),
        "what the old one signed is still good"
    );

    // The old key is kept for the lifetime of its last token plus a margin. A clock that jumps
    // ahead does not delete it, but the passage of real time does.
    server.clock.advance(Duration::from_mins(15));
    server.clock.set(START.plus(Duration::from_hours(100)));
    server.clock.advance(Duration::from_mins(16));
    server.me(&server.login("root").await.access_token).await.expect("good");
    assert_eq!(
        server.kids().await,
        BTreeSet::from([old.clone(), next.kid.clone()]),
        "by this process's own time it is too early"
    );
    eventually(async || {
        server.clock.advance(Duration::from_mins(1));
        (server.kids().await == BTreeSet::from([next.kid.clone()])).then_some(())
    })
    .await;
}

#[on_both_backends]
async fn no_token_is_refused_during_key_rotations(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--login-rate-per-minute", "0"])).await;
    let (_running, replica) = server.replica().await;
    let admin = server.superuser().await;
    let mut newest = kid(&admin);
    for _ in 0..3 {
        server
            .rotate_signing_key(&server.login("root").await.access_token)
            .await;
        server.clock.advance(Duration::from_secs(3600));
        // Tokens are issued and used at both replicas, while one after the other begins to sign
        // with the next key.
        let signed = eventually(async || {
            let here = server.login("root").await;
            let there = rotate(&mut replica.clone(), &here.refresh_token, "")
                .await
                .expect("rotated");
            for token in [&here.access_token, &there.access_token] {
                server.me(token).await.expect("good here");
                let request = IntrospectTokenRequest { token: token.clone() };
                let answer = replica.clone().introspect_token(with_token(request, token)).await;
                assert!(answer.expect("good there").into_inner().active);
            }
            let kids = [kid(&here.access_token), kid(&there.access_token)];
            kids.iter().all(|kid| *kid != newest).then(|| kids[0].clone())
        });
        newest = signed.await;
    }
}

#[on_both_backends]
async fn tokens_of_a_withdrawn_key_are_refused_at_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = server.superuser().await;
    let session = server.login("root").await;
    let (_running, other) = server.replica().await;
    let request = RetireSigningKeyRequest { kid: kid(&admin) };
    let retired = server.keys().retire_signing_key(with_token(request, &admin)).await;
    let active = retired.expect("retired").into_inner().active_key.expect("a key");
    assert_eq!(server.kids().await, BTreeSet::from([active.kid.clone()]));
    let refused = eventually(async || server.me(&session.access_token).await.err()).await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "TOKEN_INVALID")
    );
    // The session is still alive, and another replica also uses the new key.
    let fresh = eventually(async || {
        let request = RefreshAccessTokenRequest {
            refresh_token: session.refresh_token.clone(),
            ..RefreshAccessTokenRequest::default()
        };
        let token = other
            .clone()
            .refresh_access_token(request)
            .await
            .expect("refreshed")
            .into_inner()
            .access_token;
        (kid(&token) == active.kid).then_some(token)
    });
    server.me(&fresh.await).await.expect("good");
    let again = RetireSigningKeyRequest { kid: kid(&admin) };
    let token = server.login("root").await.access_token;
    let unknown = server
        .keys()
        .retire_signing_key(with_token(again, &token))
        .await
        .expect_err("gone");
    assert_eq!(
        (unknown.code(), reason(&unknown).as_str()),
        (Code::NotFound, "SIGNING_KEY_NOT_FOUND")
    );
}

#[on_both_backends]
async fn the_key_set_over_http_can_be_cached(database: TestDatabase) {
    let server = Server::start(database).await;
    let url = format!("http://{}/.well-known/jwks.json", server.http);
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("a client");
    let answer = client.get(&url).send().await.expect("an answer");
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    assert_eq!(answer.headers()["content-type"], "application/jwk-set+json");
    let tag = answer.headers()["etag"].clone();
    let tag = tag.to_str().expect("ASCII");
    for known in [tag, "*", &format!("W/{tag}"), &format!("\"another\", {tag}")] {
        let again = client
            .get(&url)
            .header("if-none-match", known)
            .send()
            .await
            .expect("an answer");
        assert_eq!(again.status(), 304, "{known}");
        assert_eq!(again.headers()["etag"], tag);
        assert_eq!(again.headers()["cache-control"], "public, max-age=300");
        assert!(!again.headers().contains_key("content-type"));
    }
    let changed = client
        .get(&url)
        .header("if-none-match", "\"another\"")
        .send()
        .await
        .expect("an answer");
    assert_eq!(changed.status(), 200);
    let text = answer.text().await.expect("a text");
    assert!(!text.contains("\"d\""), "{text}");
}

/// Returns the id of the key that signed the token.
fn kid(token: &str) -> String {
    let header = token.split('.').next().expect("a header");
    let header = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, header).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

impl Server {
    async fn rotate_signing_key(&self, token: &str) -> SigningKey {
        let answer = self
            .keys()
            .rotate_signing_key(with_token(RotateSigningKeyRequest {}, token))
            .await;
        answer.expect("rotated").into_inner().signing_key.expect("a key")
    }

    /// Returns the ids of the published keys.
    async fn kids(&self) -> BTreeSet<String> {
        let keys = self
            .keys()
            .get_jwks(GetJwksRequest {})
            .await
            .expect("keys")
            .into_inner()
            .keys;
        keys.into_iter().map(|key| key.kid).collect()
    }

    async fn me(&self, token: &str) -> Result<(), Status> {
        self.account()
            .get_me(with_token(GetMeRequest {}, token))
            .await
            .map(drop)
    }
}
