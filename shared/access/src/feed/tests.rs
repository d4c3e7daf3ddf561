//! Tests of the follower against an auth-service in memory, on a paused clock. The clock jumps
//! ahead whenever every task waits.

use std::time::Duration;

use base::{ids::SessionId, running::Running};
use proto::game::v1::FILE_DESCRIPTOR_SET;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    policy::Policies,
    testing::{feed::FakeAuth, tokens::TokenMint},
    token::TokenError,
    view::tests::{Bench, sid},
};

const SOON: Duration = Duration::from_millis(10);

/// Follower of an auth-service that publishes the mint's key and a role.
struct Following {
    auth: FakeAuth,
    bench: Bench,
    running: Running,
}

impl Following {
    fn of(auth: FakeAuth) -> Self {
        let bench = Bench::new();
        publish(&auth, &bench.mint);
        let following = Self {
            auth,
            bench,
            running: Running::new(CancellationToken::new(), Duration::from_secs(1)),
        };
        following.follow();
        following
    }

    fn follow(&self) {
        let follower = self.auth.follower();
        follower.spawn(self.bench.view.clone(), &policies(), &self.running);
    }

    async fn start() -> Self {
        let following = Self::of(FakeAuth::new());
        following.bench.view.wait_until_loaded().await;
        following
    }

    /// Waits until the view has reached this sequence number of the current epoch.
    async fn reached(&self, sequence: i64) {
        let epoch = self.auth.epoch();
        eventually(|| {
            let position = self.bench.view.position();
            position.is_some_and(|at| at.epoch == epoch && at.sequence >= sequence)
        })
        .await;
    }
}

fn policies() -> Policies {
    Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set")
}

fn publish(auth: &FakeAuth, mint: &TokenMint) {
    auth.set_keys(&mint.jwks());
    auth.set_role("player", &["games:read"]);
}

/// Waits until the condition holds, for at most three minutes, and returns how long that took.
async fn eventually(is_so: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    let wait = async {
        while !is_so() {
            sleep(SOON).await;
        }
    };
    timeout(Duration::from_mins(3), wait).await.expect("it comes to that");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn events_are_applied_in_order_after_the_snapshot() {
    let following = Following::start().await;
    let bench = &following.bench;
    let claims = bench.claims();
    assert_eq!(bench.verify(&claims), Ok(()));
    assert!(bench.may(&claims, "games:read"));
    following.auth.revoke_session(sid(&claims));
    following.auth.set_role("player", &["games:create"]);
    let last = following.auth.set_role("player", &["history:read"]);
    following.reached(last).await;
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert!(bench.may(&claims, "history:read") && !bench.may(&claims, "games:create"));
    assert_eq!(following.auth.watches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_follower_waits_for_auth_service_and_stops_with_its_service() {
    let auth = FakeAuth::new();
    auth.set_down(true);
    let following = Following::of(auth);
    sleep(Duration::from_mins(1)).await;
    assert!(!following.bench.view.is_loaded());
    following.auth.set_down(false);
    let waited = eventually(|| following.bench.view.is_loaded()).await;
    assert!(waited <= Duration::from_secs(3), "{waited:?}");
    let stopped = timeout(Duration::from_secs(1), following.running.stop()).await;
    stopped.expect("in time").expect("well");
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_is_resumed_at_its_position() {
    let following = Following::start().await;
    let last = following.auth.revoke_session(SessionId::generate());
    following.reached(last).await;
    following.auth.set_down(true);
    let claims = following.bench.claims();
    let missed = following.auth.revoke_session(sid(&claims));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(following.bench.verify(&claims), Ok(()));
    following.auth.set_down(false);
    let waited = eventually(|| following.bench.verify(&claims) == Err(TokenError::Revoked)).await;
    assert!(waited <= Duration::from_secs(3), "{waited:?}");
    following.reached(missed).await;
    let watches = following.auth.watches();
    let again = &watches.last().expect("one").request;
    assert_eq!(
        (again.epoch.as_str(), again.after_sequence),
        (following.auth.epoch().to_string().as_str(), last)
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_replaced_by_a_new_one() {
    let following = Following::start().await;
    following.auth.set_silent(true);
    sleep(Duration::from_secs(10)).await;
    let silence = following.bench.view.silence().expect("it follows");
    assert!(silence >= Duration::from_secs(9), "{silence:?}");
    assert!(following.bench.view.refuses_in_silence(false) && !following.bench.view.refuses_in_silence(true));
    assert!(following.auth.watches().len() >= 3);
    following.auth.set_silent(false);
    eventually(|| !following.bench.view.refuses_in_silence(false)).await;
}

#[tokio::test(start_paused = true)]
async fn another_epoch_replaces_roles_and_keeps_revocations() {
    let following = Following::start().await;
    let bench = &following.bench;
    let claims = bench.claims();
    let last = following.auth.revoke_session(sid(&claims));
    following.reached(last).await;
    following.auth.begin_another_epoch();
    following.auth.set_keys(&bench.mint.jwks());
    let last = following.auth.set_role("player", &["games:create"]);
    following.reached(last).await;
    assert_eq!(bench.verify(&claims), Err(TokenError::Revoked));
    assert!(bench.may(&claims, "games:create") && !bench.may(&claims, "games:read"));
}

#[tokio::test(start_paused = true)]
async fn the_token_is_renewed_in_time_and_the_streams_overlap() {
    let auth = FakeAuth::new();
    auth.set_token_life(Duration::from_secs(100));
    let following = Following::of(auth);
    following.bench.view.wait_until_loaded().await;
    let start = Instant::now();
    for renewals in 1..=3 {
        eventually(|| following.auth.watches().len() > renewals).await;
        let watch = following.auth.watches()[renewals].clone();
        assert_eq!((watch.token, watch.others), (renewals, 1), "the last one is still open");
        let due = Duration::from_secs(80 * u64::try_from(renewals).expect("few"));
        let elapsed = start.elapsed();
        assert!(
            elapsed >= due.mul_f64(0.99) && elapsed < due + Duration::from_secs(2),
            "{elapsed:?}"
        );
        sleep(Duration::from_secs(40)).await;
        let silence = following.bench.view.silence().expect("it follows");
        assert!(silence < Duration::from_secs(1), "{silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_is_replaced() {
    let following = Following::start().await;
    following.auth.revoke_tokens();
    let claims = following.bench.claims();
    following.auth.revoke_session(sid(&claims));
    let waited = eventually(|| following.bench.verify(&claims) == Err(TokenError::Revoked)).await;
    assert!(waited <= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_retried_with_a_back_off() {
    let auth = FakeAuth::new();
    let bench = Bench::new();
    publish(&auth, &bench.mint);
    let running = Running::new(CancellationToken::new(), Duration::from_secs(1));
    let follower = auth.follower_with_a_wrong_secret();
    follower.spawn(bench.view.clone(), &policies(), &running);
    sleep(Duration::from_mins(2)).await;
    assert!(!bench.view.is_loaded());
    let attempts = auth.refused_credentials();
    assert!((10..=60).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn the_permissions_of_the_service_are_declared_once() {
    let following = Following::start().await;
    following.auth.cut();
    eventually(|| following.auth.watches().len() == 2).await;
    let declared = following.auth.declared();
    let [declared] = &declared[..] else {
        panic!("{declared:?}");
    };
    let names: Vec<String> = declared
        .permissions
        .iter()
        .map(|permission| format!("{}:{}", permission.resource, permission.action))
        .collect();
    for name in [
        "games:create",
        "games:read",
        "games:update",
        "history:read",
        "history:read_all",
        "leaderboard:read",
    ] {
        assert_eq!(names.iter().filter(|declared| *declared == name).count(), 1, "{name}");
    }
    // No role holds a conditional permission from the start.
    for permission in &declared.permissions {
        let is_conditional = permission.action == "read_all";
        assert_eq!(permission.default_roles.is_empty(), is_conditional, "{permission:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_declaration_does_not_keep_the_service_from_starting() {
    for code in [
        Code::PermissionDenied,
        Code::NotFound,
        Code::Unimplemented,
        Code::Internal,
    ] {
        let auth = FakeAuth::new();
        auth.refuse_declarations(code);
        let following = Following::of(auth);
        let waited = eventually(|| following.bench.view.is_loaded()).await;
        assert!(waited <= Duration::from_secs(4), "{code:?} {waited:?}");
    }
}
