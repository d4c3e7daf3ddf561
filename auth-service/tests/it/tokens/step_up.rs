//! Access tokens say when and how their user logged in, and some calls need a recent login.

use std::time::Duration;

use access::policy::{Policies, Policy};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::auth::v1::{
    DeleteMeRequest, FILE_DESCRIPTOR_SET, IntrospectTokenRequest, ListMySessionsRequest, LogoutRequest,
    ReauthenticateRequest, reauthenticate_request::Proof,
};
use serde_json::{Value, json};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{RawConnection, bad_fields, frame, reason, with_token},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    guests::{delete_me, guest},
    support::{
        PASSWORD, START, Server,
        callers::{is, refusal, server_with_root},
        count, execute,
    },
    users::calls::{deactivate, me, refresh},
};

/// Somewhat longer than the largest age of a login, and shorter than the life of an access token.
const SOME_TIME: Duration = Duration::from_mins(16);

/// Returns the claims of an access token about the login: `auth_time`, `amr` and `acr`.
pub(crate) fn login_of(access_token: &str) -> [Value; 3] {
    let claims = access_token.split('.').nth(1).expect("claims");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let mut claims: Value = serde_json::from_slice(&claims).expect("JSON");
    ["auth_time", "amr", "acr"].map(|name| claims[name].take())
}

fn seconds_after_start(time: Duration) -> i64 {
    START.plus(time).as_seconds()
}

fn password(password: &str) -> Proof {
    Proof::Password(password.to_owned())
}

async fn reauthenticate(server: &Server, token: &str, proof: impl Into<Option<Proof>>) -> Result<String, Status> {
    let request = ReauthenticateRequest {
        proof: proof.into(),
        audience: String::new(),
    };
    let answer = server.account().reauthenticate(with_token(request, token)).await?;
    Ok(answer.into_inner().access_token)
}

async fn delete_with_password(server: &Server, token: &str) -> Result<(), Status> {
    let request = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..DeleteMeRequest::default()
    };
    server.account().delete_me(with_token(request, token)).await.map(drop)
}

#[on_both_backends]
async fn every_token_of_a_session_says_when_and_how_its_user_logged_in(database: TestDatabase) {
    let (server, mut root) = server_with_root(database).await;
    server.clock.advance(Duration::from_secs(7));
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let guest = guest(&server).await;
    let login_time = seconds_after_start(Duration::from_secs(7));
    let by_password = [json!(login_time), json!(["pwd"]), json!("1")];
    assert_eq!(login_of(&tokens.access_token), by_password);
    assert_eq!(login_of(&guest.access), [json!(login_time), json!(["swk"]), json!("1")]);
    assert_eq!(login_of(&root.token), [Value::Null, Value::Null, Value::Null]);

    server.clock.advance(Duration::from_hours(2));
    let refreshed = refresh(&server, &tokens.refresh_token).await.expect("refreshed");
    assert_eq!(login_of(&refreshed), by_password);
    let rotated = server.rotate(&tokens.refresh_token, "").await.expect("rotated");
    assert_eq!(login_of(&rotated.access_token), by_password);
    let again = refresh(&server, &guest.refresh).await.expect("refreshed");
    assert_eq!(login_of(&again)[1], json!(["swk"]));

    let listed = with_token(ListMySessionsRequest::default(), &refreshed);
    let listed = server
        .account()
        .list_my_sessions(listed)
        .await
        .expect("listed")
        .into_inner();
    let session = &listed.sessions[0];
    let shown_time = session.auth_time.as_ref().expect("a time").seconds;
    assert_eq!((shown_time, session.acr.as_str()), (login_time, "1"));
    assert_eq!(session.auth_methods, ["pwd"]);
    root.sign_in(&server).await;
    for token in [&refreshed, &rotated.refresh_token] {
        let asked = IntrospectTokenRequest { token: token.clone() };
        let found = server.auth().introspect_token(with_token(asked, &root.token)).await;
        let found = found.expect("an answer").into_inner();
        assert_eq!(found.auth_time.expect("a time").seconds, login_time);
        assert_eq!((found.auth_methods, found.acr.as_str()), (vec!["pwd".to_owned()], "1"));
    }
}

#[on_both_backends]
async fn a_session_from_before_the_upgrade_counts_as_begun_with_a_password(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    execute(
        &server,
        "UPDATE sessions SET auth_time = NULL, auth_methods = NULL, acr = NULL",
    )
    .await;
    server.clock.advance(SOME_TIME);
    let token = refresh(&server, &tokens.refresh_token).await.expect("refreshed");
    let begun = seconds_after_start(Duration::ZERO);
    assert_eq!(login_of(&token), [json!(begun), json!(["pwd"]), json!("1")]);
    let refused = delete_with_password(&server, &token).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
}

#[on_both_backends]
async fn an_old_login_is_refused_where_a_recent_one_is_declared(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    server.clock.advance(SOME_TIME);
    let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let connection = RawConnection::open(server.grpc).await;
    let value = format!("Bearer {token}");
    let mut declared = 0;
    // A public call is judged by the RPC itself, once it has read a message.
    let message = |policy: &Policy| {
        let undecodable: &[u8] = &[0xff];
        if *policy == Policy::Public { &[] } else { undecodable }
    };
    for (path, policy) in policies.iter().filter(|(path, _)| !path.ends_with("/Logout")) {
        let headers = [("authorization", value.as_str())];
        let (_, reason) = connection.begin(path, &headers, frame(message(policy))).await;
        let is_declared = policies.step_up(path).is_some();
        assert_eq!(reason == "STEP_UP_REQUIRED", is_declared, "{path}: {reason}");
        declared += usize::from(is_declared);
    }
    assert!(declared > 30, "{declared}");
}

#[on_both_backends]
async fn a_call_with_a_token_from_a_new_proof_is_admitted(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    server.superuser().await;
    let root = server.login("root").await;
    server.clock.advance(SOME_TIME);
    let refused = deactivate(&server, &root.access_token, &ann)
        .await
        .expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        is(Code::Unauthenticated, "STEP_UP_REQUIRED")
    );
    let metadata = refused.get_details_error_info().expect("an ErrorInfo").metadata;
    assert_eq!(metadata.get("max_age").map(String::as_str), Some("900"));
    assert_eq!(metadata.get("acr_values"), None);

    let fresh = reauthenticate(&server, &root.access_token, password(PASSWORD))
        .await
        .expect("proved");
    let now = seconds_after_start(SOME_TIME);
    assert_eq!(login_of(&fresh), [json!(now), json!(["pwd"]), json!("1")]);
    // Only that token is fresh: the session and its other tokens are as they were.
    let refreshed = refresh(&server, &root.refresh_token).await.expect("refreshed");
    for token in [root.access_token, refreshed] {
        let refused = deactivate(&server, &token, &ann).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    }
    deactivate(&server, &fresh, &ann).await.expect("deactivated");
    server.clock.advance(SOME_TIME);
    let late = deactivate(&server, &fresh, &ann).await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
}

#[on_both_backends]
async fn a_guest_proves_itself_with_its_credential(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (guest(&server).await, guest(&server).await);
    server.clock.advance(SOME_TIME);
    let refused = delete_me(&server, &ann.access, &ann.credential).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let with = |credential: &str| Proof::GuestCredential(credential.to_owned());
    for wrong in [&bob.credential, "g1.x.y"] {
        let refused = reauthenticate(&server, &ann.access, with(wrong)).await;
        assert_eq!(refusal(refused), is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG"));
    }
    let refused = reauthenticate(&server, &ann.access, password(PASSWORD)).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    let fresh = reauthenticate(&server, &ann.access, with(&ann.credential))
        .await
        .expect("proved");
    assert_eq!(login_of(&fresh)[1], json!(["swk"]));
    delete_me(&server, &fresh, &ann.credential).await.expect("deleted");
}

#[on_both_backends]
async fn wrong_proofs_are_refused_counted_and_recorded(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    for (proof, bad) in [
        (None, "password"),
        (Some(password("")), "password"),
        (Some(Proof::GuestCredential(String::new())), "guest_credential"),
    ] {
        let refused = reauthenticate(&server, &tokens.access_token, proof)
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), [bad]);
    }
    // A service has nobody who could log in.
    let refused = reauthenticate(&server, &root.token, password(PASSWORD)).await;
    assert_eq!(refusal(refused), is(Code::NotFound, "USER_NOT_FOUND"));
    for _ in 0..10 {
        let refused = reauthenticate(&server, &tokens.access_token, password("wrong horse")).await;
        assert_eq!(refusal(refused), is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG"));
    }
    let refused = reauthenticate(&server, &tokens.access_token, password(PASSWORD)).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    let failures = "audit_events WHERE action = 'session.reauthenticate' AND reason = 'CURRENT_PASSWORD_WRONG'";
    assert_eq!(count(server.database.db(), failures).await, 10);
}

#[on_both_backends]
async fn an_ended_session_gets_no_fresh_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let fresh = reauthenticate(&server, &tokens.access_token, password(PASSWORD))
        .await
        .expect("proved");
    me(&server, &fresh).await.expect("admitted");
    let logout = LogoutRequest {
        refresh_token: tokens.refresh_token,
    };
    server.auth().logout(logout).await.expect("logged out");
    for token in [&tokens.access_token, &fresh] {
        let refused = reauthenticate(&server, token, password(PASSWORD)).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "TOKEN_REVOKED"));
        let refused = me(&server, token).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "TOKEN_REVOKED"));
    }
}
