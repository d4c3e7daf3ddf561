//! Wall clocks that are set back, run ahead, or differ between replicas. Tokens and sessions that
//! have expired or were revoked stay so, and a clock that is wrong for a while ends nothing.

use std::time::Duration;

use base::clock::Timestamp;
use db::Backend;
use proto::auth::v1::{
    CreateServiceAccountRequest, GetMeRequest, IntrospectTokenRequest, IssueServiceTokenRequest, LogoutRequest,
    RefreshAccessTokenRequest, RevokeAllTokensRequest, RotateServiceAccountSecretRequest,
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    service_account_service_client::ServiceAccountServiceClient,
};
use server::ServerSettings;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{channel, reason, retry_after, with_token},
};
use tonic::{Code, transport::Channel};

use crate::support::{
    PASSWORD, START, Server,
    callers::{eventually, server_with_root},
    credentials, settings, spawn,
};

const STEP: Duration = Duration::from_mins(5);
/// Seconds in an hour.
const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;
const ACCESS_TOKEN_LIFE: Duration = Duration::from_mins(30);

async fn me(server: &Server, token: &str) -> Result<(), String> {
    let answer = server.account().get_me(with_token(GetMeRequest {}, token)).await;
    answer.map(drop).map_err(|status| reason(&status))
}

async fn try_login(client: &mut AuthServiceClient<Channel>, password: &str) -> Result<(), String> {
    let answer = client.login(credentials("ann", password)).await;
    answer.map(drop).map_err(|status| reason(&status))
}

#[on_both_backends]
async fn an_expired_access_token_stays_expired_when_the_clock_is_set_back(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    assert_eq!(me(&server, &token).await, Ok(()));
    server.clock.advance(ACCESS_TOKEN_LIFE + Duration::from_secs(30));
    assert_eq!(me(&server, &token).await, Err("TOKEN_EXPIRED".to_owned()));
    server
        .clock
        .set(START.plus(ACCESS_TOKEN_LIFE + Duration::from_secs(30)).minus(STEP));
    assert_eq!(me(&server, &token).await, Err("TOKEN_EXPIRED".to_owned()));
}

#[on_both_backends]
async fn an_access_token_is_valid_again_once_a_wrong_clock_is_corrected(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    assert_eq!(me(&server, &token).await, Ok(()));
    server.clock.set(START.plus(Duration::from_hours(2)));
    assert_eq!(me(&server, &token).await, Err("TOKEN_EXPIRED".to_owned()));
    server.clock.set(START);
    assert_eq!(me(&server, &token).await, Ok(()));
}

#[on_both_backends]
async fn an_access_token_from_the_future_is_refused_with_a_time_to_wait(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    server.clock.set(START.minus(Duration::from_secs(30)));
    assert_eq!(me(&server, &token).await, Ok(()));
    server.clock.set(START.minus(STEP));
    let refused = server
        .account()
        .get_me(with_token(GetMeRequest {}, &token))
        .await
        .expect_err("early");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "TOKEN_NOT_YET_VALID")
    );
    // The token becomes valid 30 s (the leeway) before its issue time. The wait is rounded up to
    // the next second.
    assert_eq!(retry_after(&refused), Some(Duration::from_secs(300 - 30 + 1)));
    server.clock.set(START);
    assert_eq!(me(&server, &token).await, Ok(()));
}

#[on_both_backends]
async fn a_clock_two_hours_ahead_for_a_moment_loses_no_logout(database: TestDatabase) {
    let server = Server::start(database).await;
    let (out, everywhere) = (
        server.register("ann").await.tokens.expect("tokens"),
        server.register("bob").await.tokens.expect("tokens"),
    );
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: out.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    server
        .auth()
        .revoke_all_tokens(with_token(RevokeAllTokensRequest {}, &everywhere.access_token))
        .await
        .expect("revoked");
    // Every replica purges when it starts, and this one purges again later. All clocks are two
    // hours ahead.
    server.clock.set(START.plus(Duration::from_hours(2)));
    let db = server.database.replica().await;
    let (limits, clock) = (ServerSettings::default(), server.clock.clock());
    let (_running, replica, _) = spawn(&settings(&[]), &limits, db, &server.secret, clock).await;
    let wrong = server.restarted_unsettled_after(Duration::from_hours(2)).await;
    server.clock.advance(Duration::from_mins(11));
    // A session begins and ends while all clocks are ahead. So the feed is written in that time,
    // and the replica reads what is new.
    let later = server.login("ann").await;
    let request = LogoutRequest {
        refresh_token: later.refresh_token.clone(),
    };
    server.auth().logout(request).await.expect("logged out");
    eventually(|| async {
        let request = with_token(GetMeRequest {}, &later.access_token);
        let answer = AccountServiceClient::new(channel(replica)).get_me(request).await;
        answer.err().filter(|status| reason(status) == "TOKEN_REVOKED")
    })
    .await;
    server.clock.set(START.plus(Duration::from_mins(11)));
    wrong.stop_token().cancel();
    assert_eq!(me(&server, &out.access_token).await, Err("TOKEN_REVOKED".to_owned()));
    assert_eq!(
        me(&server, &everywhere.access_token).await,
        Err("TOKEN_STALE".to_owned())
    );
    let request = RefreshAccessTokenRequest {
        refresh_token: out.refresh_token.clone(),
        ..RefreshAccessTokenRequest::default()
    };
    assert_eq!(
        reason(
            &AuthServiceClient::new(channel(replica))
                .refresh_access_token(request)
                .await
                .expect_err("ended")
        ),
        "SESSION_ENDED"
    );
    // A follower that starts now still learns of all three revocations.
    assert_eq!(
        crate::support::count(
            server.database.db(),
            "access_feed WHERE kind IN ('session_revoked', 'user_tokens_revoked')"
        )
        .await,
        3
    );
}

#[on_both_backends]
async fn a_clock_a_year_ahead_for_a_minute_loses_nothing(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--audit-retention-days", "30"])).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    let other = server.login("ann").await;
    server
        .auth()
        .login(credentials("ann", "wrong horse"))
        .await
        .expect_err("wrong");
    let tables = [
        "sessions",
        "audit_events",
        "login_throttle",
        "access_feed",
        "signing_keys",
        "sessions WHERE end_time IS NOT NULL",
    ];
    let rows = async || {
        let mut rows = Vec::new();
        for table in tables {
            rows.push((table, crate::support::count(server.database.db(), table).await));
        }
        rows
    };
    let before = rows().await;
    server.clock.set(START.plus(Duration::from_hours(366 * 24)));
    // Every use of the refresh token is refused at once, but no use ends the session.
    let request = RefreshAccessTokenRequest {
        refresh_token: pair.refresh_token.clone(),
        ..RefreshAccessTokenRequest::default()
    };
    assert_eq!(
        reason(&server.auth().refresh_access_token(request).await.expect_err("over")),
        "REFRESH_TOKEN_EXPIRED"
    );
    assert_eq!(
        reason(&server.rotate(&pair.refresh_token, "").await.expect_err("over")),
        "REFRESH_TOKEN_EXPIRED"
    );
    // All purges run in the meantime, both here and at another replica.
    let wrong = server.restarted_unsettled_after(Duration::from_hours(366 * 24)).await;
    for _ in 0..3 {
        server.clock.advance(Duration::from_mins(4));
        assert_eq!(
            reason(&server.rotate(&other.refresh_token, "").await.expect_err("over")),
            "REFRESH_TOKEN_EXPIRED"
        );
    }
    wrong.stop_token().cancel();
    server.clock.set(START.plus(Duration::from_mins(12)));
    assert_eq!(rows().await, before);
    server.rotate(&pair.refresh_token, "").await.expect("the session lives");
    server
        .rotate(&other.refresh_token, "")
        .await
        .expect("the session lives");
}

#[on_both_backends]
async fn a_logout_under_a_wrong_clock_holds_after_the_correction(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    server.clock.set(START.plus(Duration::from_hours(366 * 24)));
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: pair.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    server.clock.set(START);
    assert_eq!(
        reason(&server.rotate(&pair.refresh_token, "").await.expect_err("out")),
        "SESSION_ENDED"
    );
    assert_eq!(me(&server, &pair.access_token).await, Err("TOKEN_REVOKED".to_owned()));
}

#[on_both_backends]
async fn a_login_under_a_wrong_clock_does_not_end_sessions_as_expired(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    server.clock.set(START.plus(Duration::from_hours(366 * 24)));
    server.login("ann").await;
    server.clock.set(START);
    server.rotate(&pair.refresh_token, "").await.expect("the session lives");
}

#[on_both_backends]
async fn a_wrong_clock_does_not_turn_an_overlap_into_a_reuse(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    // The clock jumps an hour ahead, so the rotation no longer looks recent.
    server.clock.set(START.plus(Duration::from_hours(1)));
    assert_eq!(
        reason(&server.rotate(&first.refresh_token, "").await.expect_err("overlap")),
        "ROTATION_OVERLAP"
    );
    server.clock.set(START);
    server
        .rotate(&second.refresh_token, "")
        .await
        .expect("the session lives");
    // Logout also accepts the previous token.
    let third = server.register("bob").await.tokens.expect("tokens");
    let fourth = server.rotate(&third.refresh_token, "").await.expect("rotated");
    server.clock.set(START.plus(Duration::from_hours(1)));
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: third.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    server.clock.set(START);
    assert_eq!(
        reason(&server.rotate(&fourth.refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
}

#[on_both_backends]
async fn sessions_do_not_end_as_expired_within_15_minutes_of_a_start(database: TestDatabase) {
    let server = Server::start_unsettled(database, &settings(&["--refresh-token-seconds", "300"])).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    server.clock.advance(Duration::from_mins(14));
    assert_eq!(
        reason(&server.rotate(&pair.refresh_token, "").await.expect_err("over")),
        "REFRESH_TOKEN_EXPIRED"
    );
    let ended = "sessions WHERE end_reason = 'expired'";
    assert_eq!(crate::support::count(server.database.db(), ended).await, 0);
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(
        reason(&server.rotate(&pair.refresh_token, "").await.expect_err("over")),
        "REFRESH_TOKEN_EXPIRED"
    );
    assert_eq!(crate::support::count(server.database.db(), ended).await, 1);
}

#[on_both_backends]
async fn sessions_do_not_end_as_expired_if_the_database_server_clock_differs(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--refresh-token-seconds", "300"])).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    let is_postgres = server.database.backend() == Backend::Postgres;
    server.clock.advance(Duration::from_mins(10));
    for (lead, ended) in [(31, 0), (-31, 0), (30, 1)] {
        server.clock.set_server_lead(lead);
        assert_eq!(
            reason(&server.rotate(&pair.refresh_token, "").await.expect_err("over")),
            "REFRESH_TOKEN_EXPIRED"
        );
        let ended = if is_postgres { ended } else { 1 };
        assert_eq!(
            crate::support::count(server.database.db(), "sessions WHERE end_reason = 'expired'").await,
            ended,
            "{lead}"
        );
    }
}

#[on_both_backends]
async fn a_revoked_token_stays_refused_until_it_expires(database: TestDatabase) {
    let server = Server::start(database).await;
    let ended = server.register("ann").await.tokens.expect("tokens");
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: ended.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    // Move the clock to the last second at which the token is valid, and then back.
    server
        .clock
        .set(START.plus(ACCESS_TOKEN_LIFE + Duration::from_secs(29)));
    assert_eq!(me(&server, &ended.access_token).await, Err("TOKEN_REVOKED".to_owned()));
    server.clock.set(START);
    assert_eq!(me(&server, &ended.access_token).await, Err("TOKEN_REVOKED".to_owned()));
    assert_eq!(
        reason(&server.rotate(&ended.refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
}

#[on_both_backends]
async fn a_successful_login_causes_no_wait_when_the_clock_is_set_back(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    server.clock.advance(STEP);
    server.login("ann").await;
    server.clock.set(START);
    server.login("ann").await;
}

#[on_both_backends]
async fn a_reuse_is_detected_even_if_the_clock_is_set_back(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    let request = RefreshAccessTokenRequest {
        refresh_token: second.refresh_token.clone(),
        ..RefreshAccessTokenRequest::default()
    };
    server
        .auth()
        .refresh_access_token(request)
        .await
        .expect("the successor is used");
    server.clock.set(START.minus(STEP));
    assert_eq!(
        reason(&server.rotate(&first.refresh_token, "").await.expect_err("old")),
        "REFRESH_TOKEN_REUSED"
    );
    server.clock.set(START.plus(STEP));
    assert_eq!(
        reason(&server.rotate(&second.refresh_token, "").await.expect_err("ended")),
        "SESSION_ENDED"
    );
}

#[on_both_backends]
async fn a_session_reported_as_expired_stays_expired_when_the_clock_is_set_back(database: TestDatabase) {
    const IDLE: Duration = Duration::from_hours(7 * 24);
    let (server, root) = server_with_root(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    let other = server.login("ann").await;
    server.clock.advance(IDLE + Duration::from_secs(30));
    let mut root = root;
    root.sign_in(&server).await;
    let request = IntrospectTokenRequest {
        token: pair.refresh_token.clone(),
    };
    let answer = server
        .auth()
        .introspect_token(with_token(request, &root.token))
        .await
        .expect("an answer");
    assert!(!answer.into_inner().active);
    // The other session was not used or introspected. The next purge ends it.
    let running = server
        .restarted_after(IDLE + Duration::from_secs(30), &settings(&[]))
        .await;
    eventually(|| async {
        let ended = "sessions WHERE end_reason = 'expired'";
        (crate::support::count(server.database.db(), ended).await == 2).then_some(())
    })
    .await;
    running.stop_token().cancel();
    server.clock.set(START.plus(IDLE).minus(STEP));
    for pair in [pair, other] {
        assert_eq!(
            reason(&server.rotate(&pair.refresh_token, "").await.expect_err("over")),
            "REFRESH_TOKEN_EXPIRED"
        );
    }
}

#[on_both_backends]
async fn an_expired_client_secret_stays_expired_when_the_clock_is_set_back(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let mut accounts = ServiceAccountServiceClient::new(channel(server.grpc));
    let create = CreateServiceAccountRequest {
        client_id: "courses".to_owned(),
        ..CreateServiceAccountRequest::default()
    };
    let first = accounts
        .create_service_account(with_token(create, &root.token))
        .await
        .expect("made")
        .into_inner()
        .client_secret;
    let rotate = RotateServiceAccountSecretRequest {
        client_id: "courses".to_owned(),
        overlap_seconds: 60,
    };
    accounts
        .rotate_service_account_secret(with_token(rotate, &root.token))
        .await
        .expect("rotated");
    let token = async || {
        let request = IssueServiceTokenRequest {
            client_id: "courses".to_owned(),
            client_secret: first.clone(),
            ..IssueServiceTokenRequest::default()
        };
        server
            .auth()
            .issue_service_token(request)
            .await
            .map(drop)
            .map_err(|status| reason(&status))
    };
    assert_eq!(token().await, Ok(()));
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(token().await, Err("CLIENT_CREDENTIALS_INVALID".to_owned()));
    // The end of the old secret becomes permanent 30 s later, when it has passed by every correct
    // clock.
    server.clock.advance(Duration::from_secs(30));
    assert_eq!(token().await, Err("CLIENT_CREDENTIALS_INVALID".to_owned()));
    server.clock.set(START.minus(STEP));
    assert_eq!(token().await, Err("CLIENT_CREDENTIALS_INVALID".to_owned()));
}

#[on_both_backends]
async fn clock_steps_do_not_change_the_length_of_a_wait(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--login-free-attempts", "1"])).await;
    server.register("ann").await;
    let from_now = |seconds: i64| Timestamp::from_micros(START.as_micros() + seconds * 1_000_000);
    for (failures, step) in [-5, -HOUR, -YEAR, 5, HOUR, YEAR].into_iter().enumerate() {
        assert_eq!(
            try_login(&mut server.auth(), "wrong horse").await,
            Err("CREDENTIALS_INVALID".to_owned())
        );
        let wait = Duration::from_secs(1 << failures);
        assert_eq!(
            try_login(&mut server.auth(), PASSWORD).await,
            Err("TOO_MANY_ATTEMPTS".to_owned())
        );
        server.clock.set(from_now(step));
        assert_eq!(
            try_login(&mut server.auth(), PASSWORD).await,
            Err("TOO_MANY_ATTEMPTS".to_owned()),
            "{step}"
        );
        server.clock.advance(wait.saturating_sub(Duration::from_millis(1)));
        assert_eq!(
            try_login(&mut server.auth(), PASSWORD).await,
            Err("TOO_MANY_ATTEMPTS".to_owned()),
            "{step}"
        );
        server.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(try_login(&mut server.auth(), PASSWORD).await, Ok(()));
}

#[on_both_backends]
async fn clock_steps_do_not_turn_free_failures_into_a_block(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    let mut now = START;
    for step in [-5, -HOUR, -YEAR, 5, HOUR, YEAR] {
        for _ in 0..9 {
            assert_eq!(
                try_login(&mut server.auth(), "wrong horse").await,
                Err("CREDENTIALS_INVALID".to_owned())
            );
        }
        now = Timestamp::from_micros(now.as_micros() + step * 1_000_000);
        server.clock.set(now);
        assert_eq!(try_login(&mut server.auth(), PASSWORD).await, Ok(()), "{step}");
    }
}

#[on_both_backends]
async fn replicas_whose_clocks_differ_agree_on_every_wait(database: TestDatabase) {
    let few = settings(&["--login-free-attempts", "3"]);
    let server = Server::start_with(database, &few).await;
    server.register("ann").await;
    for ahead in [-5, 5, -HOUR, HOUR, -YEAR, YEAR] {
        let (running, mut other) = server.replica_ahead(ahead, &few).await;
        let mut one = server.auth();
        for (wrong, right) in [(one.clone(), other.clone()), (other.clone(), one.clone())] {
            let (mut wrong, mut right) = (wrong, right);
            for _ in 0..2 {
                assert_eq!(
                    try_login(&mut wrong, "wrong horse").await,
                    Err("CREDENTIALS_INVALID".to_owned())
                );
                assert_eq!(
                    try_login(&mut wrong, "wrong horse").await,
                    Err("CREDENTIALS_INVALID".to_owned())
                );
                assert_eq!(try_login(&mut right, PASSWORD).await, Ok(()), "{ahead}");
            }
            for _ in 0..3 {
                assert_eq!(
                    try_login(&mut wrong, "wrong horse").await,
                    Err("CREDENTIALS_INVALID".to_owned())
                );
            }
            for client in [&mut wrong, &mut right] {
                assert_eq!(
                    try_login(client, PASSWORD).await,
                    Err("TOO_MANY_ATTEMPTS".to_owned()),
                    "{ahead}"
                );
            }
            server.clock.advance(Duration::from_secs(1));
            assert_eq!(try_login(&mut right, PASSWORD).await, Ok(()), "{ahead}");
        }
        for client in [&mut one, &mut other] {
            assert_eq!(try_login(client, PASSWORD).await, Ok(()), "{ahead}");
        }
        running.stop_token().cancel();
    }
}

#[on_both_backends]
async fn a_start_clears_waits_written_while_the_clock_was_ahead(database: TestDatabase) {
    let few = settings(&["--login-free-attempts", "1"]);
    let server = Server::start_with(database, &few).await;
    server.register("ann").await;
    server.register("bob").await;
    assert_eq!(
        try_login(&mut server.auth(), "wrong horse").await,
        Err("CREDENTIALS_INVALID".to_owned())
    );
    // Simulates rows that were written while the clock of the database server was a year ahead.
    let sql = "UPDATE login_throttle SET blocked_until = expire_time, expire_time = expire_time + ";
    let year = match server.database.backend() {
        Backend::Sqlite => "31536000000000",
        Backend::Postgres => "interval '1 year'",
    };
    let moved: db::Result<usize> = db::write_tx!(server.database.db(), |tx| {
        db::query!(tx, |c| diesel_async::RunQueryDsl::execute(
            diesel::sql_query(format!("{sql}{year}")),
            c
        )
        .await)
    });
    assert_eq!(moved.expect("moved"), 2);
    let (running, mut replica) = server.replica_ahead(0, &few).await;
    // The first login of any user ends all of them. Ann's own would reset her counter anyway.
    replica.login(credentials("bob", PASSWORD)).await.expect("logged in");
    let blocked = match server.database.backend() {
        Backend::Sqlite => "login_throttle WHERE blocked_until <> 0",
        Backend::Postgres => "login_throttle WHERE blocked_until <> to_timestamp(0)",
    };
    assert_eq!(crate::support::count(server.database.db(), blocked).await, 0);
    assert_eq!(try_login(&mut replica, PASSWORD).await, Ok(()));
    running.stop_token().cancel();
}
