//! Identities that are linked to an account and unlinked from it.

use std::time::Duration;

use proto::auth::v1::{ExportMeRequest, LinkIdentityRequest, LoginWithIdTokenRequest};
use serde_json::json;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::Code;

use super::{external, identities, link, login_as, parts, unlink};
use crate::{
    guests::guest,
    support::{
        PASSWORD,
        callers::{eventually, is, refusal},
        count, execute,
        provider::{NAME, Provider, login_by, server_with},
        settings,
    },
    users::calls::{login, refresh},
};

#[on_both_backends]
async fn a_linked_identity_opens_the_account(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let ann = server.register("ann").await;
    let (user, tokens) = (ann.user.expect("a user"), ann.tokens.expect("tokens"));
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let linked = link(&server, &tokens.access_token, &proof).await.expect("linked");
    assert_eq!((linked.provider.as_str(), linked.subject.as_str()), (NAME, "alice"));
    assert_eq!((&linked.issuer, linked.last_use_time), (&provider.issuer(), None));
    let (same, _) = parts(login_as(&server, &provider, "alice").await);
    assert_eq!(same.user_id, user.user_id);
    login(&server, "ann", PASSWORD)
        .await
        .expect("the password works as before");
    // A second time changes nothing, and neither does a nonce that was used.
    let again = server.proof(&provider, "alice", &json!({})).await;
    let same = link(&server, &tokens.access_token, &again).await.expect("linked");
    assert_eq!(same.identity_id, linked.identity_id);
    let used = link(&server, &tokens.access_token, &again).await;
    assert_eq!(refusal(used), is(Code::Unauthenticated, "EXTERNAL_NONCE_INVALID"));
    let listed = identities(&server, &tokens.access_token).await;
    assert_eq!((listed.identities.len(), listed.has_password), (1, true));
    assert!(listed.identities[0].last_use_time.is_some());
    let exported = server
        .account()
        .export_me(with_token(ExportMeRequest::default(), &tokens.access_token))
        .await;
    assert_eq!(exported.expect("an export").into_inner().identities, listed.identities);
    let recorded = "audit_events WHERE action = 'user.link_identity' AND outcome = 'success'";
    assert_eq!(count(server.database.db(), recorded).await, 1);
}

#[on_both_backends]
async fn an_identity_of_another_user_is_not_linked(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    login_as(&server, &provider, "alice").await;
    let ann = server.register("ann").await.tokens.expect("tokens").access_token;
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let refused = link(&server, &ann, &proof).await;
    assert_eq!(refusal(refused), is(Code::AlreadyExists, "IDENTITY_ALREADY_LINKED"));
    let guest = guest(&server).await;
    let proof = server.proof(&provider, "carol", &json!({})).await;
    let refused = link(&server, &guest.access, &proof).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    for number in 0..10 {
        let proof = server.proof(&provider, &format!("ann-{number}"), &json!({})).await;
        link(&server, &ann, &proof).await.expect("linked");
    }
    let proof = server.proof(&provider, "ann-10", &json!({})).await;
    let refused = link(&server, &ann, &proof).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "TOO_MANY_IDENTITIES"));
}

#[on_both_backends]
async fn linking_and_unlinking_need_a_recent_login(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let ann = server.register("ann").await.tokens.expect("tokens").access_token;
    server.clock.advance(Duration::from_mins(16));
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let refused = link(&server, &ann, &proof).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let refused = unlink(&server, &ann, "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42").await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let anonymous = server.account().link_identity(LinkIdentityRequest::default()).await;
    assert_eq!(refusal(anonymous), is(Code::Unauthenticated, "TOKEN_MISSING"));
    let fresh = server.login("ann").await.access_token;
    let request = with_token(LinkIdentityRequest::default(), &fresh);
    let refused = server.account().link_identity(request).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["id_token"]);
}

#[on_both_backends]
async fn an_unlinked_identity_opens_nothing_and_its_sessions_end(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let ann = server.register("ann").await;
    let (user, tokens) = (ann.user.expect("a user"), ann.tokens.expect("tokens"));
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let linked = link(&server, &tokens.access_token, &proof).await.expect("linked");
    let by_identity = login_as(&server, &provider, "alice").await;
    let device_token = by_identity.device_token.clone();
    let (_, theirs) = parts(by_identity);
    let bob = server.register("bob").await.tokens.expect("tokens").access_token;
    let refused = unlink(&server, &bob, &linked.identity_id).await;
    assert_eq!(refusal(refused), is(Code::NotFound, "IDENTITY_NOT_FOUND"));

    unlink(&server, &tokens.access_token, &linked.identity_id)
        .await
        .expect("unlinked");
    let ended = refresh(&server, &theirs.refresh_token).await;
    assert_eq!(refusal(ended), is(Code::Unauthenticated, "SESSION_ENDED"));
    let stale = unlink(&server, &tokens.access_token, &linked.identity_id).await;
    assert_eq!(refusal(stale), is(Code::Unauthenticated, "TOKEN_STALE"));
    let token = refresh(&server, &tokens.refresh_token)
        .await
        .expect("the caller's goes on");
    assert_eq!(identities(&server, &token).await.identities, []);
    // A login with the identity is now that of another user.
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let request = LoginWithIdTokenRequest {
        device_token,
        ..login_by(&proof)
    };
    let (other, _) = parts(
        server
            .auth()
            .login_with_id_token(request)
            .await
            .expect("logged in")
            .into_inner(),
    );
    assert_ne!(other.user_id, user.user_id);
    let recorded = "audit_events WHERE action = 'user.unlink_identity' AND outcome = 'success'";
    assert_eq!(count(server.database.db(), recorded).await, 1);
}

#[on_both_backends]
async fn the_last_way_in_is_not_unlinked(database: TestDatabase) {
    let (one, two) = (Provider::start().await, Provider::start().await);
    let entries = [one.entry(&json!({})), two.entry(&json!({"name": "other"}))];
    let server = server_with(database, &entries, &[]).await;
    let (_, tokens) = parts(login_as(&server, &one, "alice").await);
    let listed = identities(&server, &tokens.access_token).await;
    assert!(!listed.has_password);
    let first = &listed.identities[0].identity_id;
    let refused = unlink(&server, &tokens.access_token, first).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "LAST_LOGIN_METHOD"));
    // Another identity is another way in, unless its provider is gone from the file.
    let second = server.proof(&one, "alice-2", &json!({})).await;
    link(&server, &tokens.access_token, &second).await.expect("linked");
    execute(
        &server,
        "UPDATE user_identities SET issuer = 'gone' WHERE subject = 'alice-2'",
    )
    .await;
    let refused = unlink(&server, &tokens.access_token, first).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "LAST_LOGIN_METHOD"));
    let third = server.proof(&one, "alice-3", &json!({})).await;
    link(&server, &tokens.access_token, &third).await.expect("linked");
    unlink(&server, &tokens.access_token, first).await.expect("unlinked");
    assert!(two.loads() == 0, "a provider whose users do not come is not asked");
}

#[on_both_backends]
async fn used_nonces_are_deleted_a_day_after_their_expiry(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    login_as(&server, &provider, "alice").await;
    server.clock.advance(Duration::from_mins(2));
    login_as(&server, &provider, "alice").await;
    let db = server.database.db();
    let day = Duration::from_hours(24) + Duration::from_mins(11);
    for (time, left) in [(day, 1), (day + Duration::from_mins(2), 0)] {
        let running = server.restarted_after(time, &settings(&[])).await;
        eventually(async || (count(db, "used_nonces").await == left).then_some(())).await;
        running.stop_token().cancel();
    }
}
