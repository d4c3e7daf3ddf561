//! Password guessing from one IPv6 network, and whether users elsewhere can still log in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::auth::v1::{LoginRequest, RegisterRequest, auth_service_client::AuthServiceClient};
use testing::rpc::channel;
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::Setup;
use crate::{
    deployment::{Deployment, PASSWORD},
    report::{Goal, Report, Row, Spread, Unit},
    statistics::Times,
    statistics::as_f64,
};

/// Options for the strength of the attack.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Attack {
    /// Number of guessing clients, each of which sends the next guess from a new /64 of one /48 as
    /// soon as the last one is answered [1 to 1000].
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=1000))]
    guessers: u16,
}

/// Number of correct logins in each round, and the time from one to the next.
const LOGINS: u32 = 100;
const PACE: Duration = Duration::from_millis(200);
/// A login counts if it succeeds within this time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Number of users who log in, each from an address of their own.
const USERS: u32 = 20;
/// Time until the burst that one network is allowed is used up and the queue is full.
const WARM_UP: Duration = Duration::from_secs(3);

/// Options that make the service trust the addresses that this program sends.
const BEHIND_A_PROXY: [&str; 2] = ["--trusted-proxies", "127.0.0.0/8"];

pub(crate) async fn run(setup: &Setup<'_>, attack: &Attack, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &BEHIND_A_PROXY).await;
    for user in 0..USERS {
        let login = format!("user-{user}");
        let request = RegisterRequest {
            email: format!("{login}@example.test"),
            login,
            password: PASSWORD.to_owned(),
            password_confirmation: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        let registered = deployment.auth().register(from(request, &address(user))).await;
        registered.expect("registered");
    }
    let calm = logins(&deployment).await;

    let stop = CancellationToken::new();
    let guesses = Arc::new(Guesses::default());
    let mut guessers = JoinSet::new();
    for _ in 0..attack.guessers {
        let client = AuthServiceClient::new(channel(deployment.auth_address));
        guessers.spawn(guess(client, Arc::clone(&guesses), stop.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let start = Instant::now();
    let before = guesses.counted();
    let attacked = logins(&deployment).await;
    let seconds = start.elapsed().as_secs_f64();
    let after = guesses.counted();
    stop.cancel();
    while guessers.join_next().await.is_some() {}

    let rate = |index: usize| as_f64(after[index] - before[index]) / seconds;
    let what = format!(
        "of {LOGINS} correct logins from elsewhere, succeeded within 3 s beside {} guessers from one /48 ({:.0} \
         guesses/s were hashed, {:.0}/s refused): {}; without the guessers {} did: {}",
        attack.guessers,
        rate(0),
        rate(1),
        attacked,
        calm.len(),
        calm,
    );
    let figure = (Spread::once(as_f64(attacked.len()) / f64::from(LOGINS)), Unit::Share);
    let backend = Some(setup.engine.backend());
    let scenario = "logins beside guessers from one /48";
    report.add(Row::new(scenario, backend, what, figure, Goal::AtLeast(0.9)));
}

/// Numbers of guesses that were hashed, and of guesses that were refused before that.
#[derive(Debug, Default)]
struct Guesses([AtomicU64; 2]);

impl Guesses {
    fn counted(&self) -> [u64; 2] {
        [0, 1].map(|index: usize| self.0[index].load(Ordering::Relaxed))
    }
}

/// Guesses until stopped, each time from another /64 and for another account.
async fn guess(
    mut client: AuthServiceClient<tonic::transport::Channel>,
    guesses: Arc<Guesses>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let (network, account): (u16, u64) = (rand::random(), rand::random());
        let request = LoginRequest {
            identifier: format!("guessed-{account:x}"),
            password: "a wrong password".to_owned(),
            ..LoginRequest::default()
        };
        let request = from(request, &format!("2001:db8:bad:{network:x}::1"));
        let refused = client.login(request).await.expect_err("nobody has this name");
        let is_hashed = refused.code() == Code::Unauthenticated;
        guesses.0[usize::from(!is_hashed)].fetch_add(1, Ordering::Relaxed);
    }
}

/// Logs users in at a steady pace. Returns the times of the successful logins.
async fn logins(deployment: &Deployment) -> Times {
    let mut pace = interval(PACE);
    let mut calls = JoinSet::new();
    for number in 0..LOGINS {
        pace.tick().await;
        let user = number % USERS;
        let mut client = deployment.auth();
        calls.spawn(async move {
            let request = LoginRequest {
                identifier: format!("user-{user}"),
                password: PASSWORD.to_owned(),
                ..LoginRequest::default()
            };
            let start = Instant::now();
            let answer = timeout(PATIENCE, client.login(from(request, &address(user)))).await;
            answer.is_ok_and(|answer| answer.is_ok()).then(|| start.elapsed())
        });
    }
    let times = calls.join_all().await;
    times.into_iter().flatten().collect()
}

/// Returns the address of a user: IPv4 for even numbers, and one in an IPv6 network for odd
/// numbers.
fn address(user: u32) -> String {
    if user.is_multiple_of(2) {
        format!("198.51.100.{user}")
    } else {
        format!("2001:db8:{user:x}::1")
    }
}

fn from<T>(request: T, address: &str) -> Request<T> {
    let mut request = Request::new(request);
    let address = address.parse().expect("an address is ASCII");
    request.metadata_mut().insert("x-forwarded-for", address);
    request
}
