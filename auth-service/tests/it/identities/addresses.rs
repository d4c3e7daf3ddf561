//! Addresses in ID tokens: they never lead to an account, and are believed only from a provider
//! that is trusted with them.

use proto::auth::v1::RegisterRequest;
use serde_json::json;
use testing::{TestDatabase, on_both_backends};
use tonic::Code;

use super::{external, identities, link, login_as, parts, trusted, verified};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        count,
        provider::Provider,
        registration,
    },
    users::calls::{login, me, refresh},
};

const EMAIL: &str = "alice@example.test";

/// Logs in as a new user of the provider, with these claims.
async fn login_with(server: &Server, provider: &Provider, claims: &serde_json::Value) -> proto::auth::v1::User {
    let proof = server.proof(provider, "alice", claims).await;
    parts(server.login_external(&proof).await.expect("logged in")).0
}

#[on_both_backends]
async fn a_verified_address_of_a_trusted_provider_is_the_users(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    // Apple writes the flag as a text.
    let user = login_with(&server, &provider, &json!({"email": EMAIL, "email_verified": "true"})).await;
    assert_eq!(user.email, EMAIL);
    assert!(user.email_verify_time.is_some());
    // No other user can have the address.
    let taken = server.auth().register(registration("alice")).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
}

#[on_both_backends]
async fn any_other_address_is_ignored(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    for claims in [
        json!({"email": EMAIL}),
        json!({"email": EMAIL, "email_verified": false}),
        json!({"email": EMAIL, "email_verified": "yes"}),
        json!({"email": EMAIL, "email_verified": 1}),
        json!({"email": "not an address", "email_verified": true}),
        json!({"email": "alice@example.invalid", "email_verified": true}),
        json!({"email": 7, "email_verified": true}),
        json!({"email": "\u{202e}alice@example.test", "email_verified": true}),
    ] {
        let proof = server.proof(&provider, &claims.to_string(), &claims).await;
        let (user, _) = parts(server.login_external(&proof).await.expect("logged in"));
        assert_eq!((user.email.as_str(), user.email_verify_time), ("", None), "{claims}");
    }
}

#[on_both_backends]
async fn an_address_of_a_provider_that_is_not_trusted_tells_nothing(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    server.register("alice").await;
    // The address is that of another user, but that is not told, because anyone can claim it there.
    let user = login_with(&server, &provider, &verified(EMAIL)).await;
    assert_eq!((user.email.as_str(), user.email_verify_time), ("", None));
}

#[on_both_backends]
async fn an_address_of_another_user_is_named_and_links_nothing(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    let owner = server.register("alice").await;
    let (owner, tokens) = (owner.user.expect("a user"), owner.tokens.expect("tokens"));
    let proof = server.proof(&provider, "alice", &verified("ALICE@example.test")).await;
    for _ in 0..2 {
        let refused = server.login_external(&proof).await;
        assert_eq!(refusal(refused), is(Code::AlreadyExists, "IDENTITY_EMAIL_IN_USE"));
    }
    let db = server.database.db();
    assert_eq!(count(db, "users").await, 1);
    assert_eq!(count(db, "user_identities").await, 0);
    // The owner logs in and links, with the same ID token.
    link(&server, &tokens.access_token, &proof).await.expect("linked");
    let (user, _) = parts(login_as(&server, &provider, "alice").await);
    assert_eq!(user.user_id, owner.user_id);
}

#[on_both_backends]
async fn the_first_proof_by_a_provider_ends_what_was_before_it(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    let first = server.register("alice").await.tokens.expect("tokens");
    let second = server.login("alice").await;
    link(
        &server,
        &second.access_token,
        &server.proof(&provider, "mallory", &json!({})).await,
    )
    .await
    .expect("an identity from before");
    let proof = server.proof(&provider, "alice", &verified(EMAIL)).await;
    link(&server, &second.access_token, &proof).await.expect("linked");
    // The other session has ended, and the caller's goes on with a new token.
    let ended = refresh(&server, &first.refresh_token).await;
    assert_eq!(refusal(ended), is(Code::Unauthenticated, "SESSION_ENDED"));
    me(&server, &second.access_token).await.expect_err("stale");
    let token = refresh(&server, &second.refresh_token).await.expect("refreshed");
    assert!(me(&server, &token).await.expect("me").email_verify_time.is_some());
    // The caller has just proved the password, so that stays. The identity from before does not.
    login(&server, "alice", PASSWORD).await.expect("logged in");
    let listed = identities(&server, &token).await;
    assert!(listed.has_password);
    let subjects: Vec<&str> = listed
        .identities
        .iter()
        .map(|identity| identity.subject.as_str())
        .collect();
    assert_eq!(subjects, ["alice"]);
}

#[on_both_backends]
async fn a_password_that_the_caller_has_not_proved_goes_with_the_first_proof(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    // A thief has registered with the address of another person, and linked an identity.
    let thief = server.register("alice").await.tokens.expect("tokens");
    let old = server.proof(&provider, "shared", &json!({})).await;
    link(&server, &thief.access_token, &old).await.expect("linked");
    let (user, tokens) = parts(login_as(&server, &provider, "shared").await);
    let proof = server.proof(&provider, "alice", &verified(EMAIL)).await;
    link(&server, &tokens.access_token, &proof).await.expect("linked");
    let refused = login(&server, "alice", PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    refresh(&server, &thief.refresh_token).await.expect_err("ended");
    let token = refresh(&server, &tokens.refresh_token).await.expect("refreshed");
    assert!(!identities(&server, &token).await.has_password);
    assert_eq!(
        parts(login_as(&server, &provider, "alice").await).0.user_id,
        user.user_id
    );
}

#[on_both_backends]
async fn another_address_proves_nothing_about_the_account(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    let bob = RegisterRequest {
        email: EMAIL.to_owned(),
        ..registration("bob")
    };
    server.auth().register(bob).await.expect("registered");
    let ann = server.register("ann").await.tokens.expect("tokens");
    let proof = server.proof(&provider, "alice", &verified(EMAIL)).await;
    link(&server, &ann.access_token, &proof).await.expect("linked");
    let user = me(&server, &ann.access_token).await.expect("me");
    assert_eq!(
        (user.email.as_str(), user.email_verify_time),
        ("ann@example.test", None)
    );
}
