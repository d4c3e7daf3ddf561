//! The clock is set back by five minutes: what was dead stays dead.

use std::time::Duration;

use shared::{
    proto::auth::v1::{GetMeRequest, LogoutRequest, RefreshAccessTokenRequest},
    testing::{
        TestDatabase, on_both_backends,
        rpc::{reason, with_token},
    },
};

use crate::support::{PASSWORD, START, Server, credentials, settings};

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
