//! Both services as real programs, whose wall clocks are wrong for a while.

use std::{net::SocketAddr, time::Duration};

use proto::{
    auth::v1::{
        GetMeRequest, LoginRequest, LogoutRequest, RefreshAccessTokenRequest, RegisterRequest, RevokeAllTokensRequest,
        TokenPair, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    },
    game::v1::{GetLeaderboardRequest, leaderboard_service_client::LeaderboardServiceClient},
};
use testing::{
    block_on,
    faketime::WallClock,
    program::get,
    rpc::{channel, listener, reason, retry_after, with_token},
};
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::access_feed::{PASSWORD, ServiceFiles, end};

const AHEAD: i64 = 2 * 3600;
/// Timeout that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it never became so");
}

/// Two users whose tokens must be refused, and one who is still logged in.
struct People {
    out: TokenPair,
    everywhere: TokenPair,
    in_peace: TokenPair,
}

async fn register(auth: SocketAddr, login: &str) -> TokenPair {
    let request = RegisterRequest {
        email: format!("{login}@example.com"),
        login: login.to_owned(),
        password: PASSWORD.to_owned(),
        password_confirmation: PASSWORD.to_owned(),
        ..RegisterRequest::default()
    };
    let answer = AuthServiceClient::new(channel(auth)).register(request).await;
    answer.expect("registered").into_inner().tokens.expect("tokens")
}

async fn logout(auth: SocketAddr, pair: &TokenPair) {
    let request = LogoutRequest {
        refresh_token: pair.refresh_token.clone(),
    };
    AuthServiceClient::new(channel(auth))
        .logout(request)
        .await
        .expect("logged out");
}

async fn at_auth(auth: SocketAddr, pair: &TokenPair) -> Result<(), Status> {
    let request = with_token(GetMeRequest {}, &pair.access_token);
    AccountServiceClient::new(channel(auth)).get_me(request).await.map(drop)
}

async fn at_game(game: SocketAddr, pair: &TokenPair) -> Result<(), Status> {
    let request = with_token(GetLeaderboardRequest::default(), &pair.access_token);
    LeaderboardServiceClient::new(channel(game))
        .get_leaderboard(request)
        .await
        .map(drop)
}

async fn refreshed(auth: SocketAddr, pair: &TokenPair) -> Result<(), Status> {
    let request = RefreshAccessTokenRequest {
        refresh_token: pair.refresh_token.clone(),
        ..RefreshAccessTokenRequest::default()
    };
    AuthServiceClient::new(channel(auth))
        .refresh_access_token(request)
        .await
        .map(drop)
}

async fn login(auth: SocketAddr, login: &str, password: &str) -> Result<(), Status> {
    let request = LoginRequest {
        identifier: login.to_owned(),
        password: password.to_owned(),
        ..LoginRequest::default()
    };
    AuthServiceClient::new(channel(auth)).login(request).await.map(drop)
}

fn outcome(answer: Result<(), Status>) -> String {
    answer
        .err()
        .map_or_else(|| "accepted".to_owned(), |status| reason(&status))
}

impl People {
    async fn new(auth: SocketAddr) -> Self {
        let people = Self {
            out: register(auth, "ann").await,
            everywhere: register(auth, "bob").await,
            in_peace: register(auth, "eve").await,
        };
        logout(auth, &people.out).await;
        let request = with_token(RevokeAllTokensRequest {}, &people.everywhere.access_token);
        AuthServiceClient::new(channel(auth))
            .revoke_all_tokens(request)
            .await
            .expect("revoked");
        people
    }

    /// Asserts that both services refuse the users who logged out, and accept the other one.
    async fn assert_logouts_hold(&self, auth: SocketAddr, game: SocketAddr) {
        assert_eq!(outcome(at_auth(auth, &self.out).await), "TOKEN_REVOKED");
        assert_eq!(outcome(at_auth(auth, &self.everywhere).await), "TOKEN_STALE");
        assert_eq!(outcome(at_game(game, &self.out).await), "TOKEN_REVOKED");
        assert_eq!(outcome(at_game(game, &self.everywhere).await), "TOKEN_STALE");
        for pair in [&self.out, &self.everywhere] {
            assert_eq!(outcome(refreshed(auth, pair).await), "SESSION_ENDED");
        }
        assert_eq!(outcome(at_auth(auth, &self.in_peace).await), "accepted");
        assert_eq!(outcome(at_game(game, &self.in_peace).await), "accepted");
        assert_eq!(outcome(refreshed(auth, &self.in_peace).await), "accepted");
    }
}

#[test]
fn clocks_two_hours_ahead_for_some_seconds_lose_no_logout() {
    block_on(async {
        let files = ServiceFiles::new().await;
        let clock = WallClock::new();
        let auth_program = files.auth_service_at(files.auth, &clock.environment()).await;
        let auth = files.auth;
        let (game_program, at) = files.game_service_of(auth, &clock.environment()).await;
        let game = at.grpc;
        testing::program::serving(game).await;
        let people = People::new(auth).await;
        eventually(async || at_game(game, &people.everywhere).await.is_err()).await;
        people.assert_logouts_hold(auth, game).await;

        // A session begins and ends while the clocks are wrong, so both services have exchanged
        // changes in that time.
        clock.set(AHEAD);
        let later = register(auth, "ida").await;
        eventually(async || at_game(game, &later).await.is_ok()).await;
        assert_eq!(outcome(at_game(game, &people.in_peace).await), "TOKEN_EXPIRED");
        logout(auth, &later).await;
        eventually(async || at_game(game, &later).await.is_err()).await;
        heartbeats(at.http, 3).await;
        clock.set(0);
        people.assert_logouts_hold(auth, game).await;
        // A token that was issued under the wrong clocks is not valid before its time.
        let early = at_game(game, &later).await.expect_err("from the future");
        assert_eq!(reason(&early), "TOKEN_NOT_YET_VALID");
        assert!(
            retry_after(&early).is_some_and(|wait| wait > Duration::from_secs(6000)),
            "{early:?}"
        );

        // Both services restart under clocks that are two hours ahead: auth-service runs its
        // purges, and game-service reads its snapshot.
        end(auth_program).await;
        clock.set(AHEAD);
        let auth_program = files.auth_service_at(auth, &clock.environment()).await;
        register(auth, "max").await;
        end(game_program).await;
        let (game_program, at) = files.game_service_of(auth, &clock.environment()).await;
        testing::program::serving(at.grpc).await;
        clock.set(0);
        people.assert_logouts_hold(auth, at.grpc).await;
        // Operators are told of each step of the clock once.
        let metrics = get(at.http, "/metrics").await.1;
        assert!(metrics.contains("clock_settled 0"), "{metrics}");
        eventually(async || get(at.http, "/metrics").await.1.contains("clock_steps_total 1")).await;
        let warning = game_program
            .logged_containing("this machine's clock was set back")
            .await;
        assert_eq!(warning["jump_seconds"], -AHEAD);
        end(game_program).await;
        end(auth_program).await;
    });
}

/// Waits until the follower has received this many messages. auth-service sends at least one a
/// second.
///
/// The time since the last message is sampled every 500 ms. It only shrinks when a message arrives.
async fn heartbeats(http: SocketAddr, count: usize) {
    let mut before = access_feed_silence(http).await;
    for _ in 0..count {
        eventually(async || {
            let silence = access_feed_silence(http).await;
            std::mem::replace(&mut before, silence) > silence
        })
        .await;
    }
}

async fn access_feed_silence(http: SocketAddr) -> f64 {
    let metrics = get(http, "/metrics").await.1;
    let samples = metrics.lines().map(|line| line.split_once(' '));
    let silence = samples
        .flatten()
        .find_map(|(name, value)| name.starts_with("access_feed_silence_seconds").then_some(value));
    silence.expect("a sample").parse().expect("a number")
}

#[test]
fn one_replica_with_a_wrong_clock_loses_no_revocation() {
    block_on(async {
        let files = ServiceFiles::on_postgres().await;
        let (right, wrong) = (WallClock::new(), WallClock::new());
        let auth = files.auth;
        let auth_program = files.auth_service_at(auth, &right.environment()).await;
        wrong.set(AHEAD);
        let other = listener().await.address();
        let people = People::new(auth).await;
        // The replica with the wrong clock runs its purges at the start.
        let wrong_program = files.auth_service_at(other, &wrong.environment()).await;
        // game-service follows this replica, whose messages have the wrong time.
        let (game_program, at) = files.game_service_of(other, &right.environment()).await;
        testing::program::serving(at.grpc).await;
        people.assert_logouts_hold(auth, at.grpc).await;
        let later = register(auth, "ida").await;
        eventually(async || at_game(at.grpc, &later).await.is_ok()).await;
        logout(auth, &later).await;
        eventually(async || at_game(at.grpc, &later).await.is_err()).await;
        heartbeats(at.http, 3).await;
        people.assert_logouts_hold(auth, at.grpc).await;
        // A clock that is 400 days ahead makes the replica refuse the refresh token, but the
        // session goes on.
        assert_eq!(outcome(refreshed(other, &people.in_peace).await), "accepted");
        wrong.set(400 * 24 * 3600);
        assert_eq!(
            outcome(refreshed(other, &people.in_peace).await),
            "REFRESH_TOKEN_EXPIRED"
        );
        end(wrong_program).await;
        people.assert_logouts_hold(auth, at.grpc).await;
        end(game_program).await;
        end(auth_program).await;
    });
}

#[test]
fn one_wrong_password_blocks_no_login_at_a_replica_whose_clock_is_behind() {
    block_on(async {
        let files = ServiceFiles::on_postgres().await;
        let (right, behind) = (WallClock::new(), WallClock::new());
        let auth = files.auth;
        let auth_program = files.auth_service_at(auth, &right.environment()).await;
        let other = listener().await.address();
        let behind_program = files.auth_service_at(other, &behind.environment()).await;
        register(auth, "ann").await;
        for seconds in [-5, -3600] {
            behind.set(seconds);
            assert_eq!(outcome(login(auth, "ann", "not it").await), "CREDENTIALS_INVALID");
            assert_eq!(outcome(login(other, "ann", PASSWORD).await), "accepted", "{seconds} s");
        }
        // Repeat this in one process, whose clock is set back between the two calls.
        behind.set(0);
        assert_eq!(outcome(login(other, "ann", "not it").await), "CREDENTIALS_INVALID");
        behind.set(-3600);
        assert_eq!(outcome(login(other, "ann", PASSWORD).await), "accepted");
        end(behind_program).await;
        end(auth_program).await;
    });
}
