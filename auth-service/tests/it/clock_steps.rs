//! The clock is set back by five minutes: what was dead stays dead.

use std::time::Duration;

use shared::{
    proto::auth::v1::{
        CreateServiceAccountRequest, GetMeRequest, IntrospectTokenRequest, IssueServiceTokenRequest, LogoutRequest,
        RefreshAccessTokenRequest, RotateServiceAccountSecretRequest,
        service_account_service_client::ServiceAccountServiceClient,
    },
    testing::{
        TestDatabase, on_both_backends,
        rpc::{channel, reason, with_token},
    },
};

use crate::{
    callers::{eventually, server_with_root},
    support::{PASSWORD, START, Server, credentials, settings},
};

const STEP: Duration = Duration::from_mins(5);
const ACCESS_TOKEN_LIFE: Duration = Duration::from_mins(30);

async fn me(server: &Server, token: &str) -> Result<(), String> {
    let answer = server.account().get_me(with_token(GetMeRequest {}, token)).await;
    answer.map(drop).map_err(|status| reason(&status))
}

on_both_backends! {
    migrations = auth_service::MIGRATIONS;

    async fn an_access_token_that_was_over_stays_over(database: TestDatabase) {
        let server = Server::start(database).await;
        let token = server.register("ann").await.tokens.expect("tokens").access_token;
        server.clock.advance(ACCESS_TOKEN_LIFE + Duration::from_secs(30));
        assert_eq!(me(&server, &token).await, Err("TOKEN_EXPIRED".to_owned()));
        server.clock.set(START.plus(ACCESS_TOKEN_LIFE + Duration::from_secs(30)).minus(STEP));
        assert_eq!(me(&server, &token).await, Err("TOKEN_EXPIRED".to_owned()));
    }

    async fn what_was_revoked_stays_refused_until_its_last_token_is_over(database: TestDatabase) {
        let server = Server::start(database).await;
        let ended = server.register("ann").await.tokens.expect("tokens");
        server.auth().logout(LogoutRequest { refresh_token: ended.refresh_token.clone() }).await.expect("logged out");
        // To the last moment at which the token would be good, and then back.
        server.clock.advance(ACCESS_TOKEN_LIFE + Duration::from_secs(29));
        assert_eq!(me(&server, &ended.access_token).await, Err("TOKEN_REVOKED".to_owned()));
        server.clock.set(START);
        assert_eq!(me(&server, &ended.access_token).await, Err("TOKEN_REVOKED".to_owned()));
        assert_eq!(reason(&server.rotate(&ended.refresh_token, "").await.expect_err("ended")), "SESSION_ENDED");
        // Forward beyond its end by less than the clock may be wrong, while nobody asks: what was revoked is still known after the step back.
        server.clock.set(START.plus(ACCESS_TOKEN_LIFE + STEP));
        server.login("ann").await;
        server.clock.set(START.plus(ACCESS_TOKEN_LIFE));
        assert_eq!(me(&server, &ended.access_token).await, Err("TOKEN_REVOKED".to_owned()));
    }

    async fn who_had_the_right_password_waits_for_nothing(database: TestDatabase) {
        let server = Server::start(database).await;
        server.register("ann").await;
        server.clock.advance(STEP);
        server.login("ann").await;
        server.clock.set(START);
        server.login("ann").await;
    }

    async fn a_reuse_stays_a_reuse(database: TestDatabase) {
        let server = Server::start(database).await;
        let first = server.register("ann").await.tokens.expect("tokens");
        let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
        let request = RefreshAccessTokenRequest { refresh_token: second.refresh_token.clone() };
        server.auth().refresh_access_token(request).await.expect("the successor is used");
        server.clock.set(START.minus(STEP));
        assert_eq!(reason(&server.rotate(&first.refresh_token, "").await.expect_err("old")), "REFRESH_TOKEN_REUSED");
        server.clock.set(START.plus(STEP));
        assert_eq!(reason(&server.rotate(&second.refresh_token, "").await.expect_err("ended")), "SESSION_ENDED");
    }

    async fn what_was_said_to_have_expired_stays_so(database: TestDatabase) {
        const IDLE: Duration = Duration::from_hours(7 * 24);
        let (server, root) = server_with_root(database).await;
        let pair = server.register("ann").await.tokens.expect("tokens");
        let other = server.login("ann").await;
        server.clock.advance(IDLE);
        let mut root = root;
        root.sign_in(&server).await;
        let request = IntrospectTokenRequest { token: pair.refresh_token.clone() };
        let answer = server.auth().introspect_token(with_token(request, &root.token)).await.expect("an answer");
        assert!(!answer.into_inner().active);
        // One that nobody asked about is found by the next round of the purge.
        let running = server.restarted_after(IDLE, &settings(&[])).await;
        eventually(|| async {
            let ended = "sessions WHERE end_reason = 'expired'";
            (crate::purges::count(server.database.db(), ended).await == 2).then_some(())
        }).await;
        running.stop_token().cancel();
        server.clock.set(START.plus(IDLE).minus(STEP));
        for pair in [pair, other] {
            assert_eq!(reason(&server.rotate(&pair.refresh_token, "").await.expect_err("over")), "REFRESH_TOKEN_EXPIRED");
        }
    }

    async fn a_secret_whose_time_was_over_stays_so(database: TestDatabase) {
        let (server, root) = server_with_root(database).await;
        let mut accounts = ServiceAccountServiceClient::new(channel(server.grpc));
        let create = CreateServiceAccountRequest { client_id: "courses".to_owned(), ..CreateServiceAccountRequest::default() };
        let first = accounts.create_service_account(with_token(create, &root.token)).await.expect("made").into_inner().client_secret;
        let rotate = RotateServiceAccountSecretRequest { client_id: "courses".to_owned(), overlap_seconds: 60 };
        accounts.rotate_service_account_secret(with_token(rotate, &root.token)).await.expect("rotated");
        let token = async || {
            let request = IssueServiceTokenRequest { client_id: "courses".to_owned(), client_secret: first.clone() };
            server.auth().issue_service_token(request).await.map(drop).map_err(|status| reason(&status))
        };
        assert_eq!(token().await, Ok(()));
        server.clock.advance(Duration::from_secs(60));
        assert_eq!(token().await, Err("CLIENT_CREDENTIALS_INVALID".to_owned()));
        server.clock.set(START.minus(STEP));
        assert_eq!(token().await, Err("CLIENT_CREDENTIALS_INVALID".to_owned()));
    }

    async fn who_has_to_wait_waits(database: TestDatabase) {
        let server = Server::start_with(database, &settings(&["--login-free-attempts", "1"])).await;
        server.register("ann").await;
        assert_eq!(reason(&server.auth().login(credentials("ann", "wrong horse")).await.expect_err("wrong")), "CREDENTIALS_INVALID");
        server.clock.set(START.minus(STEP));
        assert_eq!(reason(&server.auth().login(credentials("ann", PASSWORD)).await.expect_err("blocked")), "TOO_MANY_ATTEMPTS");
        server.clock.set(START.plus(Duration::from_secs(1)));
        server.login("ann").await;
    }
}
