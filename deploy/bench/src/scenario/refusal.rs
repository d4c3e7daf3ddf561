//! Time for which an issued token is still accepted after the call that invalidates it was
//! acknowledged.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::{
    auth::v1::{DeactivateUserRequest, GetRoleRequest, SetRolePermissionsRequest},
    game::v1::{GetLeaderboardRequest, leaderboard_service_client::LeaderboardServiceClient},
};
use testing::rpc::with_token;
use tokio::sync::oneshot;
use tonic::{Code, transport::Channel};

use super::Setup;
use crate::{
    deployment::{CHEAP_HASHING, Deployment, NO_LIMITS},
    report::{Goal, Report, Row, Spread, Unit},
    statistics::{Times, millis},
};

/// Number of services that verify tokens, each a separate process.
const VERIFIERS: usize = 10;
/// Number of calls after the first refusal. None of them may be accepted.
const CALLS_AFTER: usize = 20;
const ROLE: &str = "player";
const PERMISSION: &str = "leaderboard:read";

/// Options for the number of measurements.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Repeats {
    /// Number of repetitions [1 to 100000].
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeats: u32,
}

/// Observations of a caller that calls without a pause.
struct Seen {
    refused: Instant,
    code: Code,
    accepted_after_refusal: usize,
}

pub(crate) async fn deactivation(setup: &Setup<'_>, repeats: &Repeats, out: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let verifiers = deployment.verifiers(setup.engine, VERIFIERS).await;
    let mut times = Vec::new();
    let mut accepted = 0;
    for round in 0..repeats.repeats {
        let registered = deployment.register(&format!("user-{round}")).await;
        let (token, user_id) = (
            registered.tokens.expect("tokens").access_token,
            registered.user.expect("a user").user_id,
        );
        let callers = verifiers
            .iter()
            .map(|verifier| call_until_refused(verifier.leaderboard(), token.clone()));
        let callers = join_all(callers).await;
        let request = with_token(DeactivateUserRequest { user_id }, &deployment.admin);
        deployment.users().deactivate_user(request).await.expect("deactivated");
        let acknowledged = Instant::now();
        for caller in callers {
            let seen = caller.await.expect("the caller saw it");
            assert_eq!(seen.code, Code::Unauthenticated);
            times.push(seen.refused.saturating_duration_since(acknowledged));
            accepted += seen.accepted_after_refusal;
        }
    }
    report("revocation", "DeactivateUser", setup, times, accepted, out);
}

pub(crate) async fn role_change(setup: &Setup<'_>, repeats: &Repeats, out: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let token = deployment.register("ann").await.tokens.expect("tokens").access_token;
    let request = GetRoleRequest {
        code_name: ROLE.to_owned(),
    };
    let role = deployment.rbac().get_role(with_token(request, &deployment.admin)).await;
    let with = role.expect("the role").into_inner().role.expect("the role").permissions;
    let without: Vec<_> = with.iter().filter(|name| *name != PERMISSION).cloned().collect();
    assert!(without.len() < with.len(), "{ROLE} holds {PERMISSION}");
    let set = async |permissions: &Vec<String>| {
        let request = SetRolePermissionsRequest {
            role: ROLE.to_owned(),
            permissions: permissions.clone(),
        };
        let answer = deployment
            .rbac()
            .set_role_permissions(with_token(request, &deployment.admin))
            .await;
        answer.expect("the role was changed");
    };
    let mut times = Vec::new();
    let mut accepted = 0;
    for _ in 0..repeats.repeats {
        let caller = call_until_refused(deployment.leaderboard(), token.clone()).await;
        set(&without).await;
        let acknowledged = Instant::now();
        let seen = caller.await.expect("the caller saw it");
        assert_eq!(seen.code, Code::PermissionDenied);
        times.push(seen.refused.saturating_duration_since(acknowledged));
        accepted += seen.accepted_after_refusal;
        set(&with).await;
        while call(&mut deployment.leaderboard(), &token).await != Code::Ok {}
    }
    report("change of a role", "SetRolePermissions", setup, times, accepted, out);
}

/// Starts a caller that calls without a pause until it is refused. Returns once its first call was
/// accepted.
async fn call_until_refused(
    mut client: LeaderboardServiceClient<Channel>,
    token: String,
) -> tokio::task::JoinHandle<Seen> {
    let (accepted, first_call) = oneshot::channel();
    let caller = tokio::spawn(async move {
        assert_eq!(call(&mut client, &token).await, Code::Ok);
        let _ = accepted.send(());
        loop {
            let code = call(&mut client, &token).await;
            if code == Code::Ok {
                continue;
            }
            let refused = Instant::now();
            let mut accepted_after_refusal = 0;
            for _ in 0..CALLS_AFTER {
                accepted_after_refusal += usize::from(call(&mut client, &token).await == Code::Ok);
            }
            return Seen {
                refused,
                code,
                accepted_after_refusal,
            };
        }
    });
    first_call.await.expect("the first call is accepted");
    caller
}

async fn call(client: &mut LeaderboardServiceClient<Channel>, token: &str) -> Code {
    let request = GetLeaderboardRequest { limit: 1 };
    match client.get_leaderboard(with_token(request, token)).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

fn report(scenario: &str, rpc: &str, setup: &Setup<'_>, times: Vec<Duration>, accepted: usize, out: &mut Report) {
    assert_eq!(accepted, 0, "what was refused was accepted again");
    let times: Times = times.into_iter().collect();
    let what =
        format!("p99 from the acknowledged {rpc} to the first refusal by a verifier; 0 accepted after it; {times}");
    let figure = Spread {
        median: millis(times.percentile(0.99)),
        min: millis(times.percentile(0.0)),
        max: millis(times.max()),
    };
    let row = Row::new(
        scenario,
        Some(setup.engine.backend()),
        what,
        (figure, Unit::Millis),
        Goal::AtMost(50.0),
    );
    out.add(row);
}
