//! Purges of expired data: everything is kept for its full time, and deleted afterwards.

use std::time::Duration;

use db::Backend;
use proto::auth::v1::{DeactivateUserRequest, LogoutRequest, user_service_client::UserServiceClient};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{channel, with_token},
};

use crate::support::{START, Server, callers::eventually, count, credentials, execute, settings};

const SECOND: Duration = Duration::from_secs(1);
/// Delay of a purge beyond the stored expiry, because the clock of the process that stored it may
/// differ.
const ALLOWANCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_hours(24);
/// Upper bound of the time from one purge to the next.
const PURGE_INTERVAL: Duration = Duration::from_mins(11);

/// Starts the service again this much later, and waits until this many rows are left.
async fn assert_left_after_purge(server: &Server, time: Duration, what: &str, expected: i64) {
    let running = server
        .restarted_after(time + ALLOWANCE, &settings(&["--audit-retention-days", "30"]))
        .await;
    eventually(|| async { (count(server.database.db(), what).await == expected).then_some(()) }).await;
    running.stop_token().cancel();
}

#[on_both_backends]
async fn ended_sessions_are_deleted_30_days_after_their_end(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let second = server.login("ann").await;
    server.login("ann").await;
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: first.refresh_token,
        })
        .await
        .expect("logged out");
    server.clock.advance(2 * SECOND);
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: second.refresh_token,
        })
        .await
        .expect("logged out");
    assert_eq!(count(server.database.db(), "sessions").await, 3);
    // Sessions that ended earlier are deleted earlier. The session that was never ended expired a
    // week after its last use.
    for (time, left) in [
        (30 * DAY + SECOND, 2),
        (30 * DAY + 3 * SECOND, 1),
        (37 * DAY + SECOND, 0),
    ] {
        assert_left_after_purge(&server, time, "sessions", left).await;
    }
}

#[on_both_backends]
async fn a_rotated_session_is_ended_when_it_expires_and_no_sooner(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    let idle = server.login("ann").await;
    server.clock.advance(6 * DAY);
    let pair = server.rotate(&pair.refresh_token, "").await.expect("rotated");
    // By now the first refresh token would have expired, and so does the session that is idle.
    let ended = "sessions WHERE end_reason = 'expired'";
    assert_left_after_purge(&server, 8 * DAY, ended, 1).await;
    assert_eq!(count(server.database.db(), "sessions WHERE end_time IS NULL").await, 1);
    server.clock.advance(2 * DAY);
    let pair = server.rotate(&pair.refresh_token, "").await.expect("still there");
    assert!(server.rotate(&idle.refresh_token, "").await.is_err());
    assert_left_after_purge(&server, 16 * DAY, ended, 2).await;
    assert!(server.rotate(&pair.refresh_token, "").await.is_err());
}

#[on_both_backends]
async fn revocations_are_purged_once_no_token_can_still_be_valid(database: TestDatabase) {
    // Shortening the token lifetime later does not affect tokens that were already issued.
    let server = Server::start_with(database, &settings(&["--access-token-seconds", "7200"])).await;
    let admin = server.superuser().await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    let bob = server.register("bob").await.user.expect("a user").user_id;
    let _shorter = server
        .restarted_after(Duration::ZERO, &settings(&["--access-token-seconds", "60"]))
        .await;
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: pair.refresh_token,
        })
        .await
        .expect("logged out");
    server.clock.advance(2 * SECOND);
    let request = with_token(DeactivateUserRequest { user_id: bob }, &admin);
    UserServiceClient::new(channel(server.grpc))
        .deactivate_user(request)
        .await
        .expect("deactivated");
    let revocations = "access_feed WHERE kind IN ('session_revoked', 'user_tokens_revoked')";
    assert_eq!(count(server.database.db(), revocations).await, 2);
    let rest = count(server.database.db(), "access_feed").await - 2;
    // Revocations are kept for the longest token lifetime, the verifiers' leeway and a margin. The
    // time counts from the first purge that saw them, which the first advance below triggers. A
    // process that has just started has seen none of them yet.
    let dead = Duration::from_secs(7200 + 30 + 300);
    let running = server.restarted_after(dead + ALLOWANCE, &settings(&[])).await;
    server.clock.advance(PURGE_INTERVAL);
    eventually(|| async {
        server.clock.advance(PURGE_INTERVAL);
        (count(server.database.db(), revocations).await == 0).then_some(())
    })
    .await;
    assert!(server.clock.settled().now() >= START.plus(dead + ALLOWANCE));
    assert_eq!(count(server.database.db(), "access_feed").await, rest);
    running.stop_token().cancel();
}

#[on_both_backends]
async fn old_counters_and_audit_events_are_purged(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    server
        .auth()
        .login(credentials("ann", "wrong horse"))
        .await
        .expect_err("wrong");
    assert!(count(server.database.db(), "login_throttle").await > 0);
    assert_left_after_purge(&server, DAY + SECOND, "login_throttle", 0).await;
    assert!(count(server.database.db(), "audit_events").await > 0);
    assert_left_after_purge(
        &server,
        30 * DAY + SECOND,
        "audit_events WHERE action = 'session.login'",
        0,
    )
    .await;
}

#[on_both_backends]
async fn audit_events_of_the_same_time_are_purged_batch_by_batch(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    // More than two batches.
    let id = match server.database.backend() {
        Backend::Sqlite => "randomblob(16)",
        Backend::Postgres => "gen_random_uuid()",
    };
    let copies = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1300) \
         INSERT INTO audit_events SELECT {id}, event_time, 'test.copy', outcome, reason, actor_user_id, \
         actor_client_id, target_type, target_id, subject_user_id, ip_address, user_agent, request_id, details \
         FROM (SELECT * FROM audit_events LIMIT 1) AS one, numbers"
    );
    execute(&server, &copies).await;
    let copies = "audit_events WHERE action = 'test.copy'";
    assert_eq!(count(server.database.db(), copies).await, 1300);
    server.clock.advance(DAY);
    server.login("ann").await;
    assert_left_after_purge(&server, 30 * DAY + SECOND, copies, 0).await;
    let newer = "audit_events WHERE action = 'session.login'";
    assert_eq!(count(server.database.db(), newer).await, 1);
}

#[on_both_backends]
async fn unconfirmed_factors_and_old_challenges_are_deleted(database: TestDatabase) {
    let server = Server::start(database).await;
    for (name, is_confirmed) in [("ann", false), ("bob", true)] {
        let token = server.register(name).await.tokens.expect("tokens").access_token;
        if is_confirmed {
            crate::factors::App::added(&server, &token).await;
            crate::factors::challenge(&server, name).await;
        } else {
            crate::factors::create(&server, &token).await.expect("made");
        }
    }
    let minutes = |minutes| Duration::from_mins(minutes) + SECOND;
    assert_left_after_purge(&server, minutes(15), "totp_factors", 1).await;
    assert_eq!(count(server.database.db(), "login_challenges").await, 1);
    assert_left_after_purge(&server, minutes(30), "login_challenges", 0).await;
    assert_eq!(
        count(server.database.db(), "totp_factors WHERE confirm_time IS NOT NULL").await,
        1
    );
    assert_eq!(count(server.database.db(), "recovery_codes").await, 10);
}
