//! The audit log: which events it records, how they are filtered, and the guarantee that no secret
//! is stored.

use std::time::Duration;

use proto::auth::v1::{
    AuditEvent, CreateServiceAccountRequest, DeactivateUserRequest, DeleteUserRequest, IssueServiceTokenRequest,
    ListAuditEventsRequest, LogoutRequest, UnlockUserRequest, audit_event::Outcome,
    audit_service_client::AuditServiceClient, service_account_service_client::ServiceAccountServiceClient,
    user_service_client::UserServiceClient,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, reason, with_token},
};
use tonic::Status;

use crate::support::{PASSWORD, START, Server, credentials, dump};

const WRONG: &str = "wrong horse";

async fn list(server: &Server, token: &str, request: ListAuditEventsRequest) -> Result<Vec<AuditEvent>, Status> {
    let mut client = AuditServiceClient::new(channel(server.grpc));
    let mut events = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = ListAuditEventsRequest {
            page_token: page_token.clone(),
            ..request.clone()
        };
        let answer = client.list_audit_events(with_token(page, token)).await?.into_inner();
        events.extend(answer.events);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(events);
        }
    }
}

/// Returns the action and reason of each event, oldest first. The reason of a success is empty.
fn actions_and_reasons(events: &[AuditEvent]) -> Vec<(&str, &str)> {
    let oldest_first = events.iter().rev();
    oldest_first
        .map(|event| (event.action.as_str(), event.reason.as_str()))
        .collect()
}

#[on_both_backends]
async fn logins_are_recorded_with_their_user_and_outcome(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    server.auth().login(credentials("ann", WRONG)).await.expect_err("wrong");
    server
        .auth()
        .login(credentials("nobody", WRONG))
        .await
        .expect_err("wrong");
    server.login("ann").await;
    let of_ann = ListAuditEventsRequest {
        subject_user_id: ann.clone(),
        action: "session.login".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let events = list(&server, &token, of_ann).await.expect("listed");
    assert_eq!(
        actions_and_reasons(&events),
        [("session.login", "CREDENTIALS_INVALID"), ("session.login", "")]
    );
    assert!(
        events
            .iter()
            .all(|event| event.ip_address == "127.0.0.1" && !event.request_id.is_empty())
    );
    let failures = ListAuditEventsRequest {
        action: "session.*".to_owned(),
        outcome: Outcome::Failure.into(),
        ..Default::default()
    };
    let events = list(&server, &token, failures).await.expect("listed");
    assert_eq!(
        events
            .iter()
            .rev()
            .map(|event| event.subject_user_id.as_str())
            .collect::<Vec<_>>(),
        [ann.as_str(), ""]
    );
}

#[on_both_backends]
async fn events_name_the_login_and_the_true_reason_of_a_refusal(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    let mut admin = UserServiceClient::new(channel(server.grpc));
    let deactivate = DeactivateUserRequest { user_id: ann.clone() };
    admin
        .deactivate_user(with_token(deactivate, &token))
        .await
        .expect("deactivated");
    for password in [PASSWORD, WRONG] {
        let refused = server.auth().login(credentials("ann", password)).await;
        assert_eq!(reason(&refused.expect_err("deactivated")), "CREDENTIALS_INVALID");
    }
    let of_ann = ListAuditEventsRequest {
        subject_user_id: ann.clone(),
        ..Default::default()
    };
    let events = list(&server, &token, of_ann.clone()).await.expect("listed");
    assert_eq!(
        actions_and_reasons(&events)[1..],
        [
            ("user.deactivate", ""),
            ("session.login", "USER_DEACTIVATED"),
            ("session.login", "CREDENTIALS_INVALID")
        ]
    );
    assert!(events.iter().all(|event| event.subject_login == "ann"));
    let deactivation = events.iter().find(|event| event.action == "user.deactivate");
    assert_eq!(deactivation.expect("an event").actor_login, "root");
    // A deleted user no longer has a login.
    let delete = DeleteUserRequest { user_id: ann };
    admin.delete_user(with_token(delete, &token)).await.expect("deleted");
    let events = list(&server, &token, of_ann).await.expect("listed");
    assert!(events.iter().all(|event| event.subject_login.is_empty()));
}

#[on_both_backends]
async fn blocking_an_account_is_recorded_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    for _ in 0..15 {
        server
            .auth()
            .login(credentials("ann", WRONG))
            .await
            .expect_err("refused");
    }
    let of_ann = ListAuditEventsRequest {
        subject_user_id: ann.clone(),
        action: "session.login".to_owned(),
        ..Default::default()
    };
    let events = list(&server, &token, of_ann).await.expect("listed");
    let blocked: Vec<_> = events
        .iter()
        .map(|event| event.details.get("account_blocked_seconds").map(String::as_str))
        .collect();
    assert_eq!(
        (
            blocked.len(),
            blocked.iter().filter(|blocked| **blocked == Some("1")).count()
        ),
        (10, 1),
        "{blocked:?}"
    );
    // An administrator unlocks the account, which is recorded as well.
    let mut users = UserServiceClient::new(channel(server.grpc));
    users
        .unlock_user(with_token(UnlockUserRequest { user_id: ann.clone() }, &token))
        .await
        .expect("unlocked");
    server.login("ann").await;
    let unlocked = ListAuditEventsRequest {
        action: "user.unlock".to_owned(),
        ..Default::default()
    };
    assert_eq!(list(&server, &token, unlocked).await.expect("listed").len(), 1);
}

#[on_both_backends]
async fn events_are_filtered_by_time_and_address_and_bad_filters_are_reported(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.superuser().await;
    server.register("ann").await;
    let later = START.plus(Duration::from_secs(1));
    let before = ListAuditEventsRequest {
        end_time: Some(later.into()),
        ..Default::default()
    };
    assert!(!list(&server, &token, before).await.expect("listed").is_empty());
    let after = ListAuditEventsRequest {
        start_time: Some(later.into()),
        ..Default::default()
    };
    assert_eq!(list(&server, &token, after).await.expect("listed"), []);
    let elsewhere = ListAuditEventsRequest {
        ip_address: "192.0.2.1".to_owned(),
        ..Default::default()
    };
    assert_eq!(list(&server, &token, elsewhere).await.expect("listed"), []);
    for unknown in ["users.*", "user.remove"] {
        let unknown = ListAuditEventsRequest {
            action: unknown.to_owned(),
            ..Default::default()
        };
        let refused = list(&server, &token, unknown).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), ["action"]);
    }
    let bad = ListAuditEventsRequest {
        actor_user_id: "ann".to_owned(),
        subject_user_id: "ann".to_owned(),
        action: "user%".to_owned(),
        outcome: 7,
        start_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        end_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        ip_address: "here".to_owned(),
        page_size: -1,
        page_token: "x".to_owned(),
    };
    let mut client = AuditServiceClient::new(channel(server.grpc));
    let refused = client
        .list_audit_events(with_token(bad, &token))
        .await
        .expect_err("refused");
    let fields = [
        "actor_user_id",
        "subject_user_id",
        "action",
        "outcome",
        "start_time",
        "end_time",
        "ip_address",
        "page_size",
        "page_token",
    ];
    assert_eq!(bad_fields(&refused), fields);
}

#[on_both_backends]
async fn no_secret_is_ever_stored(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = server.superuser().await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    server.auth().login(credentials("ann", WRONG)).await.expect_err("wrong");
    server.auth().login(credentials(WRONG, WRONG)).await.expect_err("wrong");
    let mut services = ServiceAccountServiceClient::new(channel(server.grpc));
    let create = CreateServiceAccountRequest {
        client_id: "courses".to_owned(),
        ..Default::default()
    };
    let secret = services
        .create_service_account(with_token(create, &admin))
        .await
        .expect("created")
        .into_inner()
        .client_secret;
    let issue = |client_secret: &str| IssueServiceTokenRequest {
        client_id: "courses".to_owned(),
        client_secret: client_secret.to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    let service = server
        .auth()
        .issue_service_token(issue(&secret))
        .await
        .expect("a token")
        .into_inner();
    let refused = server
        .auth()
        .issue_service_token(issue(WRONG))
        .await
        .expect_err("wrong");
    assert_eq!(reason(&refused), "CLIENT_CREDENTIALS_INVALID");
    let logout = LogoutRequest {
        refresh_token: tokens.refresh_token.clone(),
    };
    server.auth().logout(logout).await.expect("logged out");
    let dump = dump(&server.database).await;
    assert!(dump.contains("courses"));
    for secret in [
        PASSWORD,
        WRONG,
        &secret,
        &service.access_token,
        &tokens.access_token,
        &tokens.refresh_token,
        &admin,
    ] {
        assert!(!dump.contains(secret), "{secret}");
    }
}
