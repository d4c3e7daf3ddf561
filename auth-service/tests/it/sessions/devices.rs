//! Sessions as users and administrators see them, known devices, and the limit of sessions per
//! user.

use std::time::Duration;

use prost::Message as _;
use proto::auth::v1::{
    GetMeRequest, IntrospectTokenRequest, ListMySessionsRequest, LoginResponse, RefreshAccessTokenRequest,
    RevokeAllTokensRequest, RevokeMySessionRequest, RevokeTokenRequest, Session,
};
use server::ServerSettings;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{RawConnection, bad_fields, frame, reason, with_token},
};
use tonic::{Code, Request};

use crate::support::{PASSWORD, Server, credentials, rotate, settings};

const SECOND: Duration = Duration::from_secs(1);

async fn listed(server: &Server, access_token: &str) -> Vec<Session> {
    let request = with_token(ListMySessionsRequest::default(), access_token);
    let answer = server.account().list_my_sessions(request).await;
    answer.expect("listed").into_inner().sessions
}

async fn login_on(server: &Server, login: &str, device_token: &str) -> LoginResponse {
    let mut request = credentials(login, PASSWORD);
    request.device_token = device_token.to_owned();
    server.auth().login(request).await.expect("logged in").into_inner()
}

fn revoke(token: &str) -> RevokeTokenRequest {
    RevokeTokenRequest {
        token: token.to_owned(),
        token_type_hint: String::new(),
    }
}

/// Asserts that the access token is refused for this reason, at once and repeatedly. Its revocation
/// has been acknowledged.
async fn assert_refused_as(server: &Server, access_token: &str, expected: &str) {
    for _ in 0..3 {
        let answer = server.account().get_me(with_token(GetMeRequest {}, access_token)).await;
        assert_eq!(reason(&answer.expect_err("refused")), expected);
    }
}

#[on_both_backends]
async fn sessions_are_listed_by_their_last_use(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    server.clock.advance(SECOND);
    let second = server.login("ann").await;
    let sessions = listed(&server, &second.access_token).await;
    assert_eq!(
        sessions.iter().map(|session| session.is_current).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(sessions[0].ip_address, "127.0.0.1");
    assert!(sessions[0].user_agent.contains("tonic"), "{}", sessions[0].user_agent);
    server.clock.advance(SECOND);
    server.rotate(&first.refresh_token, "").await.expect("rotated");
    let sessions = listed(&server, &second.access_token).await;
    assert_eq!(
        sessions.iter().map(|session| session.is_current).collect::<Vec<_>>(),
        [false, true]
    );

    let page = |page_token: String| {
        with_token(
            ListMySessionsRequest {
                page_size: 1,
                page_token,
            },
            &second.access_token,
        )
    };
    let one = server
        .account()
        .list_my_sessions(page(String::new()))
        .await
        .expect("a page")
        .into_inner();
    let two = server
        .account()
        .list_my_sessions(page(one.next_page_token))
        .await
        .expect("a page")
        .into_inner();
    assert_eq!(two.next_page_token, "");
    assert_eq!([&one.sessions[..], &two.sessions[..]].concat(), sessions);
}

#[on_both_backends]
async fn the_last_use_is_exact_to_a_minute(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let mut noted = Vec::new();
    for seconds in [1, 30, 29, 1, 59, 1] {
        server.clock.advance(SECOND * seconds);
        let request = RefreshAccessTokenRequest {
            refresh_token: tokens.refresh_token.clone(),
            ..RefreshAccessTokenRequest::default()
        };
        let fresh = server
            .auth()
            .refresh_access_token(request)
            .await
            .expect("a token")
            .into_inner();
        let session = listed(&server, &fresh.access_token).await.remove(0);
        noted.push(session.last_use_time.expect("a time").seconds - session.create_time.expect("a time").seconds);
    }
    // The uses are after 1, 31, 60, 61, 120 and 121 seconds.
    assert_eq!(noted, [1, 1, 1, 61, 61, 121]);
}

#[on_both_backends]
async fn a_use_from_another_address_is_noted_at_once(database: TestDatabase) {
    let limits = ServerSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ServerSettings::default()
    };
    let server = Server::start_limited(database, &settings(&[]), &limits).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    for address in ["192.0.2.1", "192.0.2.2"] {
        server.clock.advance(SECOND);
        let mut request = Request::new(RefreshAccessTokenRequest {
            refresh_token: tokens.refresh_token.clone(),
            ..RefreshAccessTokenRequest::default()
        });
        let forwarded = address.parse().expect("ASCII");
        request.metadata_mut().insert("x-forwarded-for", forwarded);
        let fresh = server.auth().refresh_access_token(request).await.expect("a token");
        let sessions = listed(&server, &fresh.into_inner().access_token).await;
        assert_eq!(sessions[0].ip_address, address);
    }
}

#[on_both_backends]
async fn only_its_own_user_can_revoke_a_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let here = server.register("ann").await.tokens.expect("tokens");
    let there = server.login("ann").await;
    let bob = server.register("bob").await.tokens.expect("tokens");
    let other = listed(&server, &here.access_token)
        .await
        .into_iter()
        .find(|session| !session.is_current);
    let request = RevokeMySessionRequest {
        session_id: other.expect("a session").session_id,
    };
    let refused = server
        .account()
        .revoke_my_session(with_token(request.clone(), &bob.access_token))
        .await
        .expect_err("not bob's");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::NotFound, "SESSION_NOT_FOUND".to_owned())
    );
    for _ in 0..2 {
        server
            .account()
            .revoke_my_session(with_token(request.clone(), &here.access_token))
            .await
            .expect("revoked");
    }
    assert_refused_as(&server, &there.access_token, "TOKEN_REVOKED").await;
    assert_eq!(
        reason(&server.rotate(&there.refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
    assert_eq!(listed(&server, &here.access_token).await.len(), 1);
}

#[on_both_backends]
async fn a_login_on_a_known_device_replaces_its_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let registered = server.register("ann").await;
    let (device, first) = (registered.device_token, registered.tokens.expect("tokens"));
    let again = login_on(&server, "ann", &device).await;
    assert_eq!(again.device_token, device);
    assert_eq!(
        reason(&server.rotate(&first.refresh_token, "").await.expect_err("replaced")),
        "SESSION_ENDED"
    );
    assert_refused_as(&server, &first.access_token, "TOKEN_REVOKED").await;
    // A forged device token, or that of another user, is ignored.
    let bobs = server.register("bob").await.device_token;
    for foreign in [bobs.as_str(), "x", &again.tokens.clone().expect("tokens").refresh_token] {
        assert_ne!(login_on(&server, "ann", foreign).await.device_token, foreign);
    }
    server
        .rotate(&again.tokens.expect("tokens").refresh_token, "")
        .await
        .expect("lives");
}

#[on_both_backends]
async fn over_the_limit_the_longest_idle_sessions_end(database: TestDatabase) {
    // Concurrent logins count as failures until they succeed.
    let server = Server::start_with(database, &settings(&["--login-free-attempts", "100"])).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    server.clock.advance(SECOND);
    let used = server.login("ann").await;
    server.clock.advance(SECOND);
    let logins = (0..20).map(|_| {
        let mut client = server.auth();
        tokio::spawn(async move { client.login(credentials("ann", PASSWORD)).await })
    });
    let mut last = None;
    for login in logins.collect::<Vec<_>>() {
        last = login.await.expect("joined").expect("logged in").into_inner().tokens;
    }
    let last = last.expect("tokens");
    assert_eq!(listed(&server, &last.access_token).await.len(), 20);
    for gone in [first, used] {
        assert_eq!(
            reason(&server.rotate(&gone.refresh_token, "").await.expect_err("gone")),
            "SESSION_ENDED"
        );
        assert_refused_as(&server, &gone.access_token, "TOKEN_REVOKED").await;
    }
}

#[on_both_backends]
async fn an_expired_session_stays_expired_when_the_clock_is_set_back(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    // The extra 30 s make sure that the session has expired by every correct clock.
    server.clock.advance((7 * 24 * 3600 + 30) * SECOND);
    assert_eq!(
        reason(&server.rotate(&pair.refresh_token, "").await.expect_err("expired")),
        "REFRESH_TOKEN_EXPIRED"
    );
    server.clock.set(crate::support::START);
    assert_eq!(
        reason(&server.rotate(&pair.refresh_token, "").await.expect_err("still")),
        "REFRESH_TOKEN_EXPIRED"
    );
    assert_refused_as(&server, &pair.access_token, "TOKEN_REVOKED").await;
}

#[on_both_backends]
async fn a_session_is_revoked_by_its_refresh_or_access_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let one = server.register("ann").await.tokens.expect("tokens");
    let two = server.login("ann").await;
    for token in [&one.refresh_token, &two.access_token, &two.access_token, "unknown"] {
        server.auth().revoke_token(revoke(token)).await.expect("revoked");
    }
    for pair in [one, two] {
        assert_eq!(
            reason(&server.rotate(&pair.refresh_token, "").await.expect_err("ended")),
            "SESSION_ENDED"
        );
        assert_refused_as(&server, &pair.access_token, "TOKEN_REVOKED").await;
    }
    let first = server.login("ann").await;
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    let third = server.rotate(&second.refresh_token, "").await.expect("rotated");
    let reused = server
        .auth()
        .revoke_token(revoke(&first.refresh_token))
        .await
        .expect_err("old");
    assert_eq!(
        (reused.code(), reason(&reused)),
        (Code::Unauthenticated, "REFRESH_TOKEN_REUSED".to_owned())
    );
    assert_eq!(
        reason(&server.rotate(&third.refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
    assert_eq!(
        bad_fields(&server.auth().revoke_token(revoke("")).await.expect_err("empty")),
        ["token"]
    );
}

#[on_both_backends]
async fn revoke_all_tokens_ends_every_session_of_the_user(database: TestDatabase) {
    let server = Server::start(database).await;
    let here = server.register("ann").await.tokens.expect("tokens");
    let there = server.login("ann").await;
    let answer = server
        .auth()
        .revoke_all_tokens(with_token(RevokeAllTokensRequest {}, &here.access_token))
        .await;
    assert_eq!(answer.expect("revoked").into_inner().session_count, 2);
    for pair in [here, there] {
        assert_eq!(
            reason(&server.rotate(&pair.refresh_token, "").await.expect_err("ended")),
            "SESSION_ENDED"
        );
        assert_refused_as(&server, &pair.access_token, "TOKEN_STALE").await;
    }
    server.login("ann").await;
}

#[on_both_backends]
async fn introspection_does_not_use_up_a_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let admin = server.superuser().await;
    let ask = async |token: &str| {
        let request = IntrospectTokenRequest {
            token: token.to_owned(),
        };
        server
            .auth()
            .introspect_token(with_token(request, &admin))
            .await
            .expect("an answer")
            .into_inner()
    };
    let access = ask(&first.access_token).await;
    assert!(access.active && access.issue_time.is_some());
    assert_eq!(
        (
            access.token_type.as_str(),
            access.login.as_str(),
            access.client_id.as_str()
        ),
        ("access_token", "ann", "first-party")
    );
    assert_eq!(access.roles, ["player"]);
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    // Introspecting an old token does not end the session, and introspecting the current token does
    // not mark it as used.
    assert!(!ask(&first.refresh_token).await.active);
    let refresh = ask(&second.refresh_token).await;
    assert_eq!(
        (refresh.active, refresh.token_type.as_str(), refresh.session_id),
        (true, "refresh_token", access.session_id)
    );
    assert_eq!(
        reason(&server.rotate(&first.refresh_token, "").await.expect_err("overlap")),
        "ROTATION_OVERLAP"
    );
    server
        .auth()
        .revoke_token(revoke(&second.refresh_token))
        .await
        .expect("revoked");
    for dead in [&second.refresh_token, &second.access_token, "x"] {
        assert_eq!(ask(dead).await, proto::auth::v1::IntrospectTokenResponse::default());
    }
}

#[on_both_backends]
async fn reuse_is_detected_after_a_restart(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    let third = server.rotate(&second.refresh_token, "").await.expect("rotated");
    let (_running, mut other) = server.replica().await;
    assert_eq!(
        reason(&rotate(&mut other, &first.refresh_token, "").await.expect_err("old")),
        "REFRESH_TOKEN_REUSED"
    );
    assert_eq!(
        reason(&rotate(&mut other, &third.refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
}

#[on_both_backends]
async fn a_non_ascii_user_agent_is_kept(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.register("ann").await;
    let connection = RawConnection::open(server.grpc).await;
    let login = frame(&credentials("ann", PASSWORD).encode_to_vec());
    for user_agent in ["Spielwelt für Ελλάδα/1.0\u{202e}", "x"] {
        let headers = [("user-agent", user_agent)];
        let answer = connection
            .call("/auth.v1.AuthService/Login", &headers, login.clone())
            .await
            .expect("an answer");
        assert_eq!(answer.status.code(), Code::Ok);
    }
    let sessions = listed(&server, &ann.tokens.expect("tokens").access_token).await;
    let agents: Vec<&str> = sessions.iter().map(|session| session.user_agent.as_str()).collect();
    assert!(agents.contains(&"Spielwelt für Ελλάδα/1.0\u{fffd}"), "{agents:?}");
}
