//! Many logins at once: what they cost, who is turned away, and what the calls beside them feel of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use shared::{
    db::Backend,
    proto::auth::v1::{GetMeRequest, LoginRequest, RotateTokensRequest},
    testing::rpc::with_token,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    deployment::{Deployment, NO_LIMITS, PASSWORD},
    statistics::Times,
};

/// Calls of the idle measurement, of each kind.
const IDLE_CALLS: usize = 1000;

/// How many.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Storm {
    /// Logins at once [1 to 10000].
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    logins: u32,
    /// Storms, one after the other [1 to 100].
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    storms: u32,
}

struct Beside {
    get_me: Vec<Duration>,
    rotate: Vec<Duration>,
}

pub(crate) async fn run(backend: Backend, storm: &Storm) {
    let deployment = Arc::new(Deployment::start(backend, &NO_LIMITS).await);
    deployment.register("stormy").await;
    let mut tokens = deployment.register("calm").await.tokens.expect("tokens");

    let idle = calls(&deployment, &mut tokens.refresh_token, &tokens.access_token, |made| {
        made < IDLE_CALLS
    })
    .await;
    let before = deployment.auth_memory();
    let (mut let_in, mut turned_away, mut other) = (0, 0, 0);
    let mut during = Beside {
        get_me: Vec::new(),
        rotate: Vec::new(),
    };
    for _ in 0..storm.storms {
        let over = Arc::new(AtomicBool::new(false));
        let mut logins = JoinSet::new();
        for _ in 0..storm.logins {
            let deployment = Arc::clone(&deployment);
            logins.spawn(async move {
                let request = LoginRequest {
                    identifier: "stormy".to_owned(),
                    password: PASSWORD.to_owned(),
                    ..LoginRequest::default()
                };
                deployment
                    .auth()
                    .login(request)
                    .await
                    .map_or_else(|status| status.code(), |_| Code::Ok)
            });
        }
        let counted = {
            let over = Arc::clone(&over);
            async move {
                let codes = logins.join_all().await;
                over.store(true, Ordering::Relaxed);
                codes
            }
        };
        let beside = calls(&deployment, &mut tokens.refresh_token, &tokens.access_token, |_| {
            !over.load(Ordering::Relaxed)
        });
        let (codes, beside) = tokio::join!(counted, beside);
        for code in codes {
            match code {
                Code::Ok => let_in += 1,
                Code::ResourceExhausted => turned_away += 1,
                _ => other += 1,
            }
        }
        during.get_me.extend(beside.get_me);
        during.rotate.extend(beside.rotate);
    }
    let share =
        |times: &Times, idle: &Times| times.percentile(0.99).as_secs_f64() / idle.percentile(0.99).as_secs_f64();
    println!(
        "{} storms of {} logins at once, {backend:?}:",
        storm.storms, storm.logins
    );
    println!("  logged in {let_in}, RESOURCE_EXHAUSTED {turned_away}, anything else {other}");
    println!(
        "  memory of auth-service: {before:.0} MiB before, {:.0} MiB at its peak",
        deployment.auth_peak_memory()
    );
    for (name, idle, during) in [
        ("GetMe", idle.get_me, during.get_me),
        ("RotateTokens", idle.rotate, during.rotate),
    ] {
        let (idle, during) = (Times::new(idle), Times::new(during));
        println!("  {name:<12} idle:   {idle}");
        println!(
            "  {name:<12} beside: {during}, p99 {:.1} times that of idle",
            share(&during, &idle)
        );
    }
    assert_eq!(other, 0, "a login was neither let in nor turned away");
}

/// Calls in turns, one at a time, for as long as `go_on` says of the number made.
async fn calls(
    deployment: &Deployment,
    refresh_token: &mut String,
    access_token: &str,
    go_on: impl Fn(usize) -> bool,
) -> Beside {
    let (mut account, mut auth) = (deployment.account(), deployment.auth());
    let mut beside = Beside {
        get_me: Vec::new(),
        rotate: Vec::new(),
    };
    while go_on(beside.get_me.len()) {
        let start = Instant::now();
        account
            .get_me(with_token(GetMeRequest {}, access_token))
            .await
            .expect("the profile");
        beside.get_me.push(start.elapsed());
        let request = RotateTokensRequest {
            refresh_token: refresh_token.clone(),
            ..RotateTokensRequest::default()
        };
        let start = Instant::now();
        let answer = auth.rotate_tokens(request).await.expect("rotated");
        beside.rotate.push(start.elapsed());
        *refresh_token = answer.into_inner().tokens.expect("tokens").refresh_token;
    }
    beside
}
