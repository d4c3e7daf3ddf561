//! Rotation and use of refresh tokens.

use std::time::Duration;

use proto::auth::v1::{GetMeRequest, LogoutRequest, RefreshAccessTokenRequest, RefreshAccessTokenResponse, TokenPair};
use testing::{
    TestDatabase, on_both_backends,
    program::get,
    rpc::{bad_fields, reason, with_token},
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::{Server, count, rotate};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn first_pair(server: &Server) -> TokenPair {
    server.register("ann").await.tokens.expect("tokens")
}

async fn refresh(server: &Server, refresh_token: &str) -> Result<RefreshAccessTokenResponse, Status> {
    let request = RefreshAccessTokenRequest {
        refresh_token: refresh_token.to_owned(),
        ..RefreshAccessTokenRequest::default()
    };
    server
        .auth()
        .refresh_access_token(request)
        .await
        .map(tonic::Response::into_inner)
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("refused");
    (status.code(), reason(&status))
}

fn unauthenticated(reason: &str) -> (Code, String) {
    (Code::Unauthenticated, reason.to_owned())
}

#[on_both_backends]
async fn rotation_returns_a_new_valid_pair(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = first_pair(&server).await;
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_ne!(first.access_token, second.access_token);
    let me = server
        .account()
        .get_me(with_token(GetMeRequest {}, &second.access_token))
        .await;
    assert_eq!(me.expect("me").into_inner().user.expect("a user").login, "ann");
    server.rotate(&second.refresh_token, "").await.expect("rotated again");
}

#[on_both_backends]
async fn a_reused_refresh_token_ends_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = first_pair(&server).await;
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    let third = server.rotate(&second.refresh_token, "").await.expect("rotated");
    assert_eq!(
        refused(server.rotate(&first.refresh_token, "").await),
        unauthenticated("REFRESH_TOKEN_REUSED")
    );
    // The session is over for the thief and for the owner, also at another replica.
    assert_eq!(
        refused(server.rotate(&third.refresh_token, "").await),
        unauthenticated("SESSION_ENDED")
    );
    let (_running, mut other) = server.replica().await;
    assert_eq!(
        refused(rotate(&mut other, &third.refresh_token, "").await),
        unauthenticated("SESSION_ENDED")
    );
    // Other sessions are not affected.
    let elsewhere = server.login("ann").await;
    server
        .rotate(&elsewhere.refresh_token, "")
        .await
        .expect("another session");
}

#[on_both_backends]
async fn a_token_whose_successor_was_used_is_a_reuse_at_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = first_pair(&server).await;
    let request_id = Uuid::new_v4().to_string();
    let second = server.rotate(&first.refresh_token, &request_id).await.expect("rotated");
    refresh(&server, &second.refresh_token).await.expect("used");
    assert_eq!(
        refused(server.rotate(&first.refresh_token, &request_id).await),
        unauthenticated("REFRESH_TOKEN_REUSED")
    );
    assert_eq!(
        refused(refresh(&server, &second.refresh_token).await),
        unauthenticated("SESSION_ENDED")
    );
}

#[on_both_backends]
async fn a_retry_within_60_seconds_returns_the_same_refresh_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = first_pair(&server).await;
    let request_id = Uuid::new_v4().to_string();
    let answer = server.rotate(&first.refresh_token, &request_id).await.expect("rotated");
    server.clock.advance(60 * SECOND);
    let again = server
        .rotate(&first.refresh_token, &request_id.to_uppercase())
        .await
        .expect("again");
    assert_eq!(answer.refresh_token, again.refresh_token);
    assert_ne!(answer.access_token, again.access_token);
    let retries = "audit_events WHERE action = 'session.rotate_retry'";
    assert_eq!(count(server.database.db(), retries).await, 1);
    // By another clock, less time may have passed, so this is not treated as reuse yet.
    server.clock.advance(30 * SECOND);
    assert_eq!(
        refused(server.rotate(&first.refresh_token, &request_id).await),
        (Code::Aborted, "ROTATION_OVERLAP".to_owned())
    );
    server.clock.advance(SECOND);
    assert_eq!(
        refused(server.rotate(&first.refresh_token, &request_id).await),
        unauthenticated("REFRESH_TOKEN_REUSED")
    );
}

#[on_both_backends]
async fn uses_of_refresh_tokens_are_counted_by_their_outcome(database: TestDatabase) {
    let server = Server::start(database).await;
    let counted = async |rpc: &str, outcome: &str| {
        let (_, metrics) = get(server.http, "/metrics").await;
        let series = format!("auth_refreshes_total{{rpc=\"{rpc}\",outcome=\"{outcome}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |value| value.parse::<u64>().expect("an integer"))
    };
    let outcomes = [
        ("RotateTokens", "ok"),
        ("RotateTokens", "repeated"),
        ("RefreshAccessToken", "ok"),
        ("RotateTokens", "reused"),
    ];
    let mut before = Vec::new();
    for (rpc, outcome) in outcomes {
        before.push(counted(rpc, outcome).await);
    }
    let first = first_pair(&server).await;
    let request_id = Uuid::new_v4().to_string();
    server.rotate(&first.refresh_token, &request_id).await.expect("rotated");
    let second = server.rotate(&first.refresh_token, &request_id).await.expect("again");
    refresh(&server, &second.refresh_token).await.expect("refreshed");
    server.rotate(&first.refresh_token, "").await.expect_err("reused");
    for ((rpc, outcome), before) in outcomes.into_iter().zip(before) {
        // Other tests of this process count, too.
        assert!(counted(rpc, outcome).await > before, "{rpc} {outcome}");
    }
}

#[on_both_backends]
async fn overlapping_rotations_do_not_end_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = first_pair(&server).await;
    let request_id = Uuid::new_v4().to_string();
    let second = server.rotate(&first.refresh_token, &request_id).await.expect("rotated");
    server.clock.advance(10 * SECOND);
    let overlap = (Code::Aborted, "ROTATION_OVERLAP".to_owned());
    assert_eq!(refused(server.rotate(&first.refresh_token, "").await), overlap);
    assert_eq!(
        refused(server.rotate(&first.refresh_token, &Uuid::new_v4().to_string()).await),
        overlap
    );
    assert_eq!(refused(refresh(&server, &first.refresh_token).await), overlap);
    server
        .rotate(&second.refresh_token, "")
        .await
        .expect("the session lives");
}

#[on_both_backends]
async fn one_of_fifty_racers_rotates(database: TestDatabase) {
    let server = Server::start(database).await;
    let (_running, replica) = server.replica().await;
    let first = first_pair(&server).await;
    let racers = (0..50).map(|index| {
        let mut client = if index % 2 == 0 { server.auth() } else { replica.clone() };
        let token = first.refresh_token.clone();
        tokio::spawn(async move { rotate(&mut client, &token, "").await })
    });
    let mut won = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.expect("joined") {
            Ok(pair) => won.push(pair),
            Err(status) => assert_eq!(reason(&status), "ROTATION_OVERLAP", "{status}"),
        }
    }
    assert_eq!(won.len(), 1, "pairs");
    server
        .rotate(&won[0].refresh_token, "")
        .await
        .expect("the session lives");
}

#[on_both_backends]
async fn a_refresh_token_gives_access_tokens_until_it_must_be_rotated(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = first_pair(&server).await;
    for _ in 0..3 {
        let fresh = refresh(&server, &pair.refresh_token).await.expect("refreshed");
        assert_eq!((fresh.token_type.as_str(), fresh.access_expires_in), ("Bearer", 1800));
        let me = server
            .account()
            .get_me(with_token(GetMeRequest {}, &fresh.access_token))
            .await;
        me.expect("the access token is good");
    }
    server.clock.advance(23 * HOUR + 3599 * SECOND);
    refresh(&server, &pair.refresh_token).await.expect("still");
    server.clock.advance(SECOND);
    assert_eq!(
        refused(refresh(&server, &pair.refresh_token).await),
        (Code::FailedPrecondition, "ROTATION_REQUIRED".to_owned())
    );
    let next = server.rotate(&pair.refresh_token, "").await.expect("rotated");
    refresh(&server, &next.refresh_token).await.expect("refreshed");
}

#[on_both_backends]
async fn a_session_expires_after_7_idle_days_or_90_days_in_all(database: TestDatabase) {
    let server = Server::start(database).await;
    let idle = first_pair(&server).await;
    server.clock.advance(7 * 24 * HOUR);
    assert_eq!(
        refused(server.rotate(&idle.refresh_token, "").await),
        unauthenticated("REFRESH_TOKEN_EXPIRED")
    );
    assert_eq!(
        refused(refresh(&server, &idle.refresh_token).await),
        unauthenticated("REFRESH_TOKEN_EXPIRED")
    );

    let mut pair = server.login("ann").await;
    for _ in 0..14 {
        server.clock.advance(6 * 24 * HOUR);
        pair = server.rotate(&pair.refresh_token, "").await.expect("rotated");
    }
    assert_eq!(pair.refresh_expires_in, 6 * 24 * 3600, "84 of 90 days have passed");
    server.clock.advance(6 * 24 * HOUR);
    assert_eq!(
        refused(server.rotate(&pair.refresh_token, "").await),
        unauthenticated("REFRESH_TOKEN_EXPIRED")
    );
}

#[on_both_backends]
async fn invalid_refresh_tokens_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = first_pair(&server).await;
    let altered = pair.refresh_token.replacen(".1.", ".2.", 1);
    for bad in [
        "x",
        altered.as_str(),
        &pair.access_token,
        &format!("{} ", pair.refresh_token),
    ] {
        assert_eq!(
            refused(server.rotate(bad, "").await),
            unauthenticated("REFRESH_TOKEN_INVALID")
        );
        assert_eq!(
            refused(refresh(&server, bad).await),
            unauthenticated("REFRESH_TOKEN_INVALID")
        );
        let logout = LogoutRequest {
            refresh_token: bad.to_owned(),
        };
        assert_eq!(
            refused(server.auth().logout(logout).await),
            unauthenticated("REFRESH_TOKEN_INVALID")
        );
    }
    // A refresh token is not accepted as an access token.
    let me = server
        .account()
        .get_me(with_token(GetMeRequest {}, &pair.refresh_token))
        .await;
    assert_eq!(refused(me), unauthenticated("TOKEN_INVALID"));
    let nothing = server.rotate("", "not a uuid").await.expect_err("refused");
    assert_eq!(bad_fields(&nothing), ["refresh_token", "request_id"]);
    let version_7 = server
        .rotate(&pair.refresh_token, &Uuid::now_v7().to_string())
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&version_7), ["request_id"]);
    server.rotate(&pair.refresh_token, "").await.expect("unharmed");
}

#[on_both_backends]
async fn a_deactivated_user_gets_no_tokens(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = first_pair(&server).await;
    crate::users::login::deactivate_all(&server).await;
    assert_eq!(
        refused(server.rotate(&pair.refresh_token, "").await),
        unauthenticated("SESSION_ENDED")
    );
    assert_eq!(
        refused(refresh(&server, &pair.refresh_token).await),
        unauthenticated("SESSION_ENDED")
    );
    let me = server
        .account()
        .get_me(with_token(GetMeRequest {}, &pair.access_token))
        .await;
    assert_eq!(refused(me), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
}

#[on_both_backends]
async fn no_token_is_stored_in_the_database(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = first_pair(&server).await;
    let next = server
        .rotate(&pair.refresh_token, &Uuid::new_v4().to_string())
        .await
        .expect("rotated");
    server.running.stop().await.expect("stopped");
    let dump = crate::support::dump(&server.database).await;
    assert!(dump.contains("ann@example.test"), "the dump is one");
    for secret in [&pair.access_token, &pair.refresh_token, &next.refresh_token] {
        let mac = secret.rsplit('.').next().expect("a last part");
        assert!(!dump.contains(mac));
    }
    assert!(!dump.contains(crate::support::PASSWORD));
}
