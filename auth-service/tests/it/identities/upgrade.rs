//! Guests who become users with an identity provider.

use proto::auth::v1::{IdTokenProof, UpgradeAccountWithIdTokenRequest, UpgradeAccountWithIdTokenResponse};
use serde_json::json;
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::{Code, Status};

use super::{external, login_as, parts, trusted, verified};
use crate::{
    guests::{guest, login_guest},
    support::{
        Server,
        callers::{is, refusal},
        count,
    },
    users::calls::{me, refresh},
};

async fn upgrade(
    server: &Server,
    token: &str,
    proof: &IdTokenProof,
    login: &str,
) -> Result<UpgradeAccountWithIdTokenResponse, Status> {
    let request = UpgradeAccountWithIdTokenRequest {
        id_token: Some(proof.clone()),
        login: login.to_owned(),
    };
    let upgraded = server
        .account()
        .upgrade_account_with_id_token(with_token(request, token))
        .await?;
    Ok(upgraded.into_inner())
}

#[on_both_backends]
async fn a_guest_keeps_the_id_and_logs_in_with_the_identity(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    let ann = guest(&server).await;
    let other = login_guest(&server, &ann.credential).await.expect("a second session");
    let proof = server.proof(&provider, "alice", &verified("alice@example.test")).await;
    let upgraded = upgrade(&server, &ann.access, &proof, "alice").await.expect("upgraded");
    let (user, tokens) = (upgraded.user.expect("a user"), upgraded.tokens.expect("tokens"));
    assert_eq!((&user.user_id, user.login.as_str()), (&ann.user_id, "alice"));
    assert!(!user.is_guest && user.email_verify_time.is_some());
    assert_eq!(user.email, "alice@example.test");
    assert_eq!(me(&server, &tokens.access_token).await.expect("me"), user);
    // Nothing from before is valid.
    me(&server, &ann.access).await.expect_err("stale");
    let ended = refresh(&server, &other.tokens.expect("tokens").refresh_token).await;
    assert_eq!(refusal(ended), is(Code::Unauthenticated, "SESSION_ENDED"));
    let gone = login_guest(&server, &ann.credential).await;
    assert_eq!(refusal(gone), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    let (same, _) = parts(login_as(&server, &provider, "alice").await);
    assert_eq!(same.user_id, ann.user_id);
    let again = server.proof(&provider, "alice-2", &json!({})).await;
    let refused = upgrade(&server, &tokens.access_token, &again, "").await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "NOT_A_GUEST"));
    let roles = "user_roles JOIN roles ON roles.id = role_id WHERE code_name = 'player'";
    assert_eq!(count(server.database.db(), roles).await, 1);
}

#[on_both_backends]
async fn an_upgrade_that_fails_changes_nothing(database: TestDatabase) {
    let (server, provider) = external(database, trusted()).await;
    server.register("bob").await;
    login_as(&server, &provider, "carol").await;
    let ann = guest(&server).await;
    for (subject, claims, login, code, reason) in [
        ("carol", json!({}), "", Code::AlreadyExists, "IDENTITY_ALREADY_LINKED"),
        (
            "alice",
            verified("bob@example.test"),
            "",
            Code::AlreadyExists,
            "IDENTITY_EMAIL_IN_USE",
        ),
        ("alice", json!({}), "bob", Code::AlreadyExists, "USER_ALREADY_EXISTS"),
        (
            "alice",
            json!({"nonce": "another"}),
            "",
            Code::Unauthenticated,
            "ID_TOKEN_INVALID",
        ),
    ] {
        let proof = server.proof(&provider, subject, &claims).await;
        let refused = upgrade(&server, &ann.access, &proof, login).await;
        assert_eq!(refusal(refused), is(code, reason));
    }
    assert!(me(&server, &ann.access).await.expect("me").is_guest);
    login_guest(&server, &ann.credential).await.expect("still a guest");
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let upgraded = upgrade(&server, &ann.access, &proof, "").await.expect("upgraded");
    let user = upgraded.user.expect("a user");
    assert!(user.login.starts_with("player-") && user.email.is_empty(), "{user:?}");
}
