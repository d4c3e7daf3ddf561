//! Login with an ID token.

use std::time::Duration;

use futures_util::future::join_all;
use proto::auth::v1::{IdTokenProof, ListIdentityProvidersRequest, LoginWithIdTokenRequest, StartExternalLoginRequest};
use serde_json::json;
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::Code;

use super::{external, login_as, parts};
use crate::{
    support::{
        Server,
        callers::{is, refusal},
        count, dump,
        provider::{CLIENT, NAME, Provider, SigningKey, login_by, server_with},
    },
    users::calls::{deactivate, delete, me, refresh},
};

#[on_both_backends]
async fn the_first_login_creates_a_user_and_later_ones_find_them(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let first = login_as(&server, &provider, "alice").await;
    assert!(first.is_new_user && !first.device_token.is_empty());
    let device = first.device_token.clone();
    let (user, tokens) = parts(first);
    assert!(
        user.login.starts_with("player-") && user.login.len() == 19,
        "{}",
        user.login
    );
    assert_eq!((user.email.as_str(), user.is_guest), ("", false));
    assert_eq!(user.email_verify_time, None);
    assert_eq!(me(&server, &tokens.access_token).await.expect("me"), user);

    let proof = server.proof(&provider, "alice", &json!({})).await;
    let again = LoginWithIdTokenRequest {
        device_token: device.clone(),
        login: "ignored".to_owned(),
        ..login_by(&proof)
    };
    let again = server
        .auth()
        .login_with_id_token(again)
        .await
        .expect("logged in")
        .into_inner();
    assert!(!again.is_new_user);
    assert_eq!(again.device_token, device);
    let (same, _) = parts(again);
    assert_eq!((&same.user_id, &same.login), (&user.user_id, &user.login));
    // The login on the same device has replaced its session.
    let ended = refresh(&server, &tokens.refresh_token).await;
    assert_eq!(refusal(ended), is(Code::Unauthenticated, "SESSION_ENDED"));
    let (other, _) = parts(login_as(&server, &provider, "bob").await);
    assert_ne!(other.user_id, user.user_id);
    let db = server.database.db();
    assert_eq!(count(db, "audit_events WHERE action = 'user.register'").await, 2);
    assert_eq!(count(db, "audit_events WHERE action = 'session.login'").await, 3);
}

#[on_both_backends]
async fn a_new_user_can_choose_the_login_and_try_again_if_it_is_taken(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    server.register("ann").await;
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let with_login = |login: &str| LoginWithIdTokenRequest {
        login: login.to_owned(),
        ..login_by(&proof)
    };
    let taken = server.auth().login_with_id_token(with_login("ANN")).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
    let reserved = server.auth().login_with_id_token(with_login("guest-ann")).await;
    assert_eq!(bad_fields(&reserved.expect_err("refused")), ["login"]);
    // The ID token and the nonce are not used up.
    let chosen = server.auth().login_with_id_token(with_login("alice.1")).await;
    let (user, _) = parts(chosen.expect("logged in").into_inner());
    assert_eq!(user.login, "alice.1");
}

#[on_both_backends]
async fn a_nonce_and_its_id_token_can_be_used_once(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let racers = join_all((0..10).map(|_| server.login_external(&proof))).await;
    let (won, lost): (Vec<_>, Vec<_>) = racers.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for refused in lost {
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "EXTERNAL_NONCE_INVALID"));
    }
    // A genuine ID token is worth nothing with another nonce.
    let other = server.start_external(NAME).await;
    let replayed = IdTokenProof {
        nonce: other.nonce,
        ..proof.clone()
    };
    let refused = server.login_external(&replayed).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "ID_TOKEN_INVALID"));
    let text = dump(&server.database).await;
    assert!(!text.contains(&proof.nonce) && !text.contains(&proof.id_token));
    assert_eq!(count(server.database.db(), "used_nonces").await, 1);
}

#[on_both_backends]
async fn first_logins_that_meet_create_one_user(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let mut proofs = Vec::new();
    for _ in 0..6 {
        proofs.push(server.proof(&provider, "alice", &json!({})).await);
    }
    let logins = join_all(proofs.iter().map(|proof| server.login_external(proof))).await;
    let logins: Vec<_> = logins.into_iter().map(|login| login.expect("logged in")).collect();
    assert_eq!(logins.iter().filter(|login| login.is_new_user).count(), 1);
    let first = parts(logins[0].clone()).0.user_id;
    assert!(logins.into_iter().all(|login| parts(login).0.user_id == first));
    assert_eq!(count(server.database.db(), "user_identities").await, 1);
    assert_eq!(
        count(server.database.db(), "users WHERE login LIKE 'player-%'").await,
        1
    );
}

#[on_both_backends]
async fn a_nonce_is_for_one_provider_and_for_ten_minutes(database: TestDatabase) {
    let (one, two) = (Provider::start().await, Provider::start().await);
    let entries = [one.entry(&json!({})), two.entry(&json!({"name": "other"}))];
    let server = server_with(database, &entries, &[]).await;
    let foreign = server.start_external("other").await;
    let claims = one.claims("alice", &foreign.provider_nonce, server.clock.clock().now());
    let proof = IdTokenProof {
        provider: NAME.to_owned(),
        id_token: one.sign(&claims),
        nonce: foreign.nonce,
    };
    let refused = server.login_external(&proof).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "EXTERNAL_NONCE_INVALID"));

    let late = server.proof(&one, "alice", &json!({})).await;
    server.clock.advance(Duration::from_mins(10));
    let refused = server.login_external(&late).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "EXTERNAL_NONCE_INVALID"));
    let unknown = StartExternalLoginRequest {
        provider: "nobody".to_owned(),
    };
    let refused = server.auth().start_external_login(unknown).await;
    assert_eq!(refusal(refused), is(Code::NotFound, "IDENTITY_PROVIDER_NOT_FOUND"));
    let empty = server
        .auth()
        .login_with_id_token(LoginWithIdTokenRequest::default())
        .await;
    assert_eq!(
        bad_fields(&empty.expect_err("refused")),
        ["provider", "id_token", "nonce"]
    );
}

#[on_both_backends]
async fn a_provider_can_repeat_the_nonce_as_a_hash(database: TestDatabase) {
    let (server, provider) = external(database, json!({"nonce": "sha256"})).await;
    let started = server.start_external(NAME).await;
    assert_eq!(started.provider_nonce.len(), 64);
    login_as(&server, &provider, "alice").await;
    // The nonce itself is not accepted then.
    let raw = provider.claims("alice", &started.nonce, server.clock.clock().now());
    let proof = IdTokenProof {
        provider: NAME.to_owned(),
        id_token: provider.sign(&raw),
        nonce: started.nonce,
    };
    let refused = server.login_external(&proof).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "ID_TOKEN_INVALID"));
}

#[on_both_backends]
async fn every_algorithm_of_a_provider_is_accepted(database: TestDatabase) {
    let provider = Provider::with_keys(vec![SigningKey::rsa("rsa")]).await;
    let server = server_with(database, &[provider.entry(&json!({}))], &[]).await;
    for key in [
        SigningKey::rsa("rsa-2"),
        SigningKey::p256("ec"),
        SigningKey::ed25519("ed"),
    ] {
        provider.rotate(vec![key]);
        // Keys are loaded at most once in 30 s.
        server.clock.advance(Duration::from_secs(31));
        login_as(&server, &provider, "alice").await;
    }
}

#[on_both_backends]
async fn a_user_who_is_deactivated_or_deleted_does_not_get_in(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let root = server.superuser().await;
    let (user, _) = parts(login_as(&server, &provider, "alice").await);
    deactivate(&server, &root, &user.user_id).await.expect("deactivated");
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let refused = server.login_external(&proof).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    let recorded = "audit_events WHERE action = 'session.login' AND reason = 'USER_DEACTIVATED'";
    assert_eq!(count(server.database.db(), recorded).await, 1);
    // A deletion frees the identity for a new user.
    delete(&server, &root, &user.user_id).await.expect("deleted");
    let again = login_as(&server, &provider, "alice").await;
    assert!(again.is_new_user);
    assert_ne!(parts(again).0.user_id, user.user_id);
}

#[on_both_backends]
async fn where_registration_is_closed_only_known_users_get_in(database: TestDatabase) {
    let provider = Provider::start().await;
    let entries = [provider.entry(&json!({}))];
    let server = server_with(database, &entries, &["--registration-open", "false"]).await;
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let refused = server.login_external(&proof).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "REGISTRATION_CLOSED"));
}

#[on_both_backends]
async fn the_providers_are_listed_for_pages(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let listed = server
        .auth()
        .list_identity_providers(ListIdentityProvidersRequest {})
        .await;
    let listed = listed.expect("a list").into_inner().providers;
    let [one] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!((one.name.as_str(), one.display_name.as_str()), (NAME, "Example ID"));
    assert_eq!((&one.issuer, one.web_client_id.as_str()), (&provider.issuer(), CLIENT));
}

#[on_both_backends]
async fn without_a_file_there_are_no_providers(database: TestDatabase) {
    let server = Server::start(database).await;
    let listed = server
        .auth()
        .list_identity_providers(ListIdentityProvidersRequest {})
        .await;
    assert_eq!(listed.expect("a list").into_inner().providers, []);
}
