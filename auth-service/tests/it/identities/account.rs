//! Users who log in with an identity provider and have no password, and what they do to their own
//! account.

use std::time::Duration;

use proto::auth::v1::{
    ChangePasswordRequest, DeleteMeRequest, IdTokenProof, ReauthenticateRequest, UpdateMeRequest, User,
    reauthenticate_request::Proof,
};
use serde_json::json;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::{Code, Status};

use super::{external, identities, login_as, parts};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
    },
    users::calls::{login, me, refresh},
};

/// Somewhat longer than the largest age of a login.
const SOME_TIME: Duration = Duration::from_mins(16);

async fn reauthenticate(server: &Server, token: &str, proof: &IdTokenProof) -> Result<String, Status> {
    let request = ReauthenticateRequest {
        proof: Some(Proof::IdToken(proof.clone())),
        audience: String::new(),
    };
    let answer = server.account().reauthenticate(with_token(request, token)).await?;
    Ok(answer.into_inner().access_token)
}

async fn delete_by(server: &Server, token: &str, proof: &IdTokenProof) -> Result<(), Status> {
    let request = DeleteMeRequest {
        id_token: Some(proof.clone()),
        ..DeleteMeRequest::default()
    };
    server.account().delete_me(with_token(request, token)).await.map(drop)
}

async fn rename(server: &Server, token: &str, login: &str) -> Result<User, Status> {
    let request = UpdateMeRequest {
        user: Some(User {
            login: login.to_owned(),
            ..User::default()
        }),
        ..UpdateMeRequest::default()
    };
    let updated = server.account().update_me(with_token(request, token)).await?;
    Ok(updated.into_inner().user.expect("a user"))
}

async fn set_password(server: &Server, token: &str, current: &str) -> Result<String, Status> {
    let request = ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: PASSWORD.to_owned(),
        new_password_confirmation: PASSWORD.to_owned(),
    };
    let changed = server.account().change_password(with_token(request, token)).await?;
    Ok(changed.into_inner().tokens.expect("tokens").access_token)
}

#[on_both_backends]
async fn an_id_token_proves_once_more_who_the_user_is(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let (_, tokens) = parts(login_as(&server, &provider, "alice").await);
    login_as(&server, &provider, "bob").await;
    server.clock.advance(SOME_TIME);
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let refused = delete_by(&server, &tokens.access_token, &proof).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    // An identity of another user proves nothing.
    let foreign = server.proof(&provider, "bob", &json!({})).await;
    let refused = reauthenticate(&server, &tokens.access_token, &foreign).await;
    assert_eq!(refusal(refused), is(Code::NotFound, "IDENTITY_NOT_FOUND"));
    let fresh = reauthenticate(&server, &tokens.access_token, &proof)
        .await
        .expect("proved");
    let used = delete_by(&server, &fresh, &proof).await;
    assert_eq!(refusal(used), is(Code::Unauthenticated, "EXTERNAL_NONCE_INVALID"));
    let refused = delete_by(&server, &fresh, &foreign).await;
    assert_eq!(refusal(refused), is(Code::NotFound, "IDENTITY_NOT_FOUND"));
    let proof = server.proof(&provider, "alice", &json!({})).await;
    delete_by(&server, &fresh, &proof).await.expect("deleted");
    assert!(login_as(&server, &provider, "alice").await.is_new_user);
}

#[on_both_backends]
async fn an_old_login_at_the_provider_is_an_old_proof(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let (_, tokens) = parts(login_as(&server, &provider, "alice").await);
    server.clock.advance(SOME_TIME);
    let now = server.clock.clock().now().as_seconds();
    for (login, auth_time, is_recent) in [("old", now - 1000, false), ("recent", now - 100, true)] {
        let proof = server.proof(&provider, "alice", &json!({"auth_time": auth_time})).await;
        let token = reauthenticate(&server, &tokens.access_token, &proof)
            .await
            .expect("a token");
        let renamed = rename(&server, &token, login).await;
        if is_recent {
            renamed.expect("renamed");
        } else {
            assert_eq!(refusal(renamed), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
        }
    }
}

#[on_both_backends]
async fn a_user_without_a_password_needs_a_recent_login_to_rename_and_to_set_one(database: TestDatabase) {
    let (server, provider) = external(database, json!({})).await;
    let (user, tokens) = parts(login_as(&server, &provider, "alice").await);
    server.clock.advance(SOME_TIME);
    let refused = rename(&server, &tokens.access_token, "alice").await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let refused = set_password(&server, &tokens.access_token, "").await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let refused = set_password(&server, &tokens.access_token, "a guess").await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG"));
    let unknown = login(&server, &user.login, PASSWORD).await;
    assert_eq!(refusal(unknown), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));

    let (_, tokens) = parts(login_as(&server, &provider, "alice").await);
    assert_eq!(
        rename(&server, &tokens.access_token, "alice")
            .await
            .expect("renamed")
            .login,
        "alice"
    );
    let token = refresh(&server, &tokens.refresh_token).await.expect("refreshed");
    let token = set_password(&server, &token, "").await.expect("set");
    assert!(identities(&server, &token).await.has_password);
    login(&server, "alice", PASSWORD).await.expect("logged in");
    // From now on, the password is asked for.
    let missing = set_password(&server, &token, "").await.expect_err("refused");
    assert_eq!(bad_fields(&missing), ["current_password"]);
    let missing = rename(&server, &token, "alice-2").await;
    assert_eq!(refusal(missing), is(Code::Unauthenticated, "REAUTHENTICATION_REQUIRED"));
    assert_eq!(me(&server, &token).await.expect("me").login, "alice");
}
