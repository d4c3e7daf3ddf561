//! Sessions of other users, as administrators list and end them.

use std::time::Duration;

use proto::auth::v1::{
    GetMeRequest, ListAuditEventsRequest, ListUserSessionsRequest, LogoutRequest, RevokeUserSessionRequest,
    RevokeUserTokensRequest, Session, audit_service_client::AuditServiceClient, user_service_client::UserServiceClient,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, reason, with_token},
};
use tonic::{Code, Response, Status, transport::Channel};

use crate::support::{
    Server,
    callers::{refusal, server_with_root},
};

const SECOND: Duration = Duration::from_secs(1);
const NOBODY: &str = "00000000-0000-7000-8000-0000000000ff";

fn users(server: &Server) -> UserServiceClient<Channel> {
    UserServiceClient::new(channel(server.grpc))
}

async fn listed(server: &Server, token: &str, user_id: &str, show_ended: bool) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListUserSessionsRequest {
            user_id: user_id.to_owned(),
            page_size: 2,
            page_token,
            show_ended,
        };
        let answer = users(server).list_user_sessions(with_token(request, token)).await;
        let answer = answer.expect("listed").into_inner();
        assert!(answer.sessions.len() <= 2);
        sessions.extend(answer.sessions);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return sessions;
        }
    }
}

async fn revoke(server: &Server, token: &str, user_id: &str, session_id: &str) -> Result<Response<()>, Status> {
    let request = RevokeUserSessionRequest {
        user_id: user_id.to_owned(),
        session_id: session_id.to_owned(),
    };
    let answer = users(server).revoke_user_session(with_token(request, token)).await?;
    Ok(answer.map(drop))
}

async fn revoke_all(server: &Server, token: &str, user_id: &str) -> Result<i32, Status> {
    let request = RevokeUserTokensRequest {
        user_id: user_id.to_owned(),
    };
    let answer = users(server).revoke_user_tokens(with_token(request, token)).await?;
    Ok(answer.into_inner().session_count)
}

#[on_both_backends]
async fn an_administrator_lists_and_ends_the_sessions_of_a_user(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let admin = root.service(&server, "the-admin", &["admin"], &[]).await.token;
    let registered = server.register("ann").await;
    let ann = registered.user.expect("a user").user_id;
    let mut pairs = vec![registered.tokens.expect("tokens")];
    for _ in 0..4 {
        server.clock.advance(SECOND);
        pairs.push(server.login("ann").await);
    }
    let sessions = listed(&server, &admin, &ann, false).await;
    assert_eq!(sessions.len(), 5);
    assert!(
        sessions.is_sorted_by(|one, next| one.last_use_time.as_ref().map(|time| time.seconds)
            > next.last_use_time.as_ref().map(|time| time.seconds))
    );
    assert!(
        sessions
            .iter()
            .all(|session| session.user_id == ann && !session.is_current && session.end_time.is_none())
    );

    // The list begins with the most recently used session, so ann's first session is last.
    for _ in 0..2 {
        revoke(&server, &admin, &ann, &sessions[4].session_id)
            .await
            .expect("ended");
    }
    assert_eq!(
        reason(&server.rotate(&pairs[0].refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
    let me = server
        .account()
        .get_me(with_token(GetMeRequest {}, &pairs[0].access_token))
        .await;
    assert_eq!(reason(&me.expect_err("refused")), "TOKEN_REVOKED");
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: pairs[1].refresh_token.clone(),
        })
        .await
        .expect("logged out");
    assert_eq!(listed(&server, &admin, &ann, false).await, sessions[..3]);
    let all = listed(&server, &admin, &ann, true).await;
    assert_eq!(
        all.iter()
            .map(|session| session.end_reason.as_str())
            .collect::<Vec<_>>(),
        ["", "", "", "logout", "revoked"]
    );

    assert_eq!(revoke_all(&server, &admin, &ann).await.expect("logged out"), 3);
    assert_eq!(revoke_all(&server, &admin, &ann).await.expect("logged out"), 0);
    for pair in &pairs[2..] {
        assert_eq!(
            reason(&server.rotate(&pair.refresh_token, "").await.expect_err("ended")),
            "SESSION_ENDED"
        );
        let me = server
            .account()
            .get_me(with_token(GetMeRequest {}, &pair.access_token))
            .await;
        assert_eq!(reason(&me.expect_err("refused")), "TOKEN_STALE");
    }
    assert_eq!(listed(&server, &admin, &ann, false).await, []);

    let request = ListAuditEventsRequest {
        action: "session.*".to_owned(),
        subject_user_id: ann.clone(),
        ..Default::default()
    };
    let events = AuditServiceClient::new(channel(server.grpc))
        .list_audit_events(with_token(request, &root.token))
        .await;
    let events = events.expect("listed").into_inner().events;
    let told: Vec<_> = events
        .iter()
        .rev()
        .map(|event| (event.action.as_str(), event.actor_client_id.as_str()))
        .filter(|(action, _)| *action != "session.login")
        .collect();
    let expected = [
        ("session.revoke", "the-admin"),
        ("session.logout", ""),
        ("session.revoke_all", "the-admin"),
        ("session.revoke_all", "the-admin"),
    ];
    assert_eq!(told, expected);
}

#[on_both_backends]
async fn sessions_of_unknown_or_other_users_are_not_found(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let registered = server.register("ann").await;
    let ann = registered.user.expect("a user").user_id;
    let session = listed(&server, &root.token, &ann, false).await.remove(0).session_id;
    let bob = server.register("bob").await.user.expect("a user").user_id;
    let no_user = (Code::NotFound, "USER_NOT_FOUND".to_owned());
    let no_session = (Code::NotFound, "SESSION_NOT_FOUND".to_owned());
    assert_eq!(refusal(revoke(&server, &root.token, &bob, &session).await), no_session);
    assert_eq!(refusal(revoke(&server, &root.token, &ann, NOBODY).await), no_session);
    // A service account has no sessions, and does not count as a user.
    for user_id in [NOBODY, root.user_id.as_str()] {
        assert_eq!(refusal(revoke(&server, &root.token, user_id, &session).await), no_user);
        assert_eq!(refusal(revoke_all(&server, &root.token, user_id).await), no_user);
        let request = ListUserSessionsRequest {
            user_id: user_id.to_owned(),
            ..ListUserSessionsRequest::default()
        };
        assert_eq!(
            refusal(
                users(&server)
                    .list_user_sessions(with_token(request, &root.token))
                    .await
            ),
            no_user
        );
    }
    let refused = revoke(&server, &root.token, "x", "").await.expect_err("bad");
    assert_eq!(bad_fields(&refused), ["user_id", "session_id"]);
    server
        .rotate(&registered.tokens.expect("tokens").refresh_token, "")
        .await
        .expect("lives");
}

#[on_both_backends]
async fn only_superusers_end_sessions_of_superusers(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let admin = root.service(&server, "the-admin", &["admin"], &[]).await.token;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    root.assign(&ann, "superuser").await.expect("assigned");
    let session = listed(&server, &admin, &ann, false).await.remove(0).session_id;
    let refused = (Code::PermissionDenied, "SUPERUSER_REQUIRED".to_owned());
    assert_eq!(refusal(revoke(&server, &admin, &ann, &session).await), refused);
    assert_eq!(refusal(revoke_all(&server, &admin, &ann).await), refused);
    revoke(&server, &root.token, &ann, &session).await.expect("ended");
}
