//! Logins, which cost little more than a password hash.

use std::{
    thread,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, Version};
use db::Backend;
use proto::auth::v1::{LoginRequest, auth_service_client::AuthServiceClient};
use testing::rpc::channel;
use tonic::{Status, transport::Channel};

use super::{Setup, nakama};
use crate::{
    deployment::{Deployment, NO_LIMITS, PASSWORD},
    load::Caller,
    report::{Goal, Report, Rounds, Row, Spread, Unit},
};

/// The service's own Argon2 parameters: KiB of memory, and passes over it.
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;

/// Caller that logs in again and again.
pub(crate) struct Login {
    client: AuthServiceClient<Channel>,
    login: String,
}

impl Login {
    pub(crate) fn new(deployment: &Deployment, login: &str) -> Self {
        Self {
            client: AuthServiceClient::new(channel(deployment.auth_address)),
            login: login.to_owned(),
        }
    }
}

impl Caller for Login {
    async fn call(&mut self) -> Result<(), Status> {
        let request = LoginRequest {
            identifier: self.login.clone(),
            password: PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        self.client.login(request).await.map(drop)
    }
}

pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &NO_LIMITS).await;
    let mut logins = Vec::new();
    for user in deployment.register_users(setup.connections).await {
        logins.push(Login::new(&deployment, &user.login));
    }
    let (mut us, mut ratios) = (Rounds::default(), Vec::new());
    for _ in 0..setup.rounds {
        us.push(setup.time.drive(&mut logins, &deployment.auth_processors()).await);
        ratios.push(us.last().goodput() / hashes_per_second(setup.time.measured));
    }
    let what = "logins/s, against hashes/s of raw argon2 on all cores";
    let backend = Some(setup.engine.backend());
    let row = Row::new(
        "Login",
        backend,
        what,
        (Spread::of(ratios), Unit::Times),
        Goal::AtLeast(0.95),
    );
    report.add(row.with("ours", &us));
    if setup.engine.backend() == Backend::Postgres {
        report.add(nakama::LOGIN.beside("Login", Some(Backend::Postgres), &us));
    }
}

/// Measures the hashes per second on all cores. Each core keeps using the same memory.
fn hashes_per_second(time: Duration) -> f64 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let params = Params::new(MEMORY, PASSES, 1, None).expect("parameters");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut memory = vec![argon2::Block::default(); params.block_count()];
                    let (start, mut hashes, mut output) = (Instant::now(), 0_u32, [0; 32]);
                    while start.elapsed() < time {
                        let hashed = argon2.hash_password_into_with_memory(
                            PASSWORD.as_bytes(),
                            b"sixteen bytes of",
                            &mut output,
                            &mut memory,
                        );
                        hashed.expect("hashed");
                        hashes += 1;
                    }
                    f64::from(hashes) / start.elapsed().as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a rate")).sum()
    })
}
