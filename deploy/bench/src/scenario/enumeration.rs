//! Whether the time that a failed login takes tells that the user exists.

use std::time::{Duration, Instant};

use shared::{db::Backend, proto::auth::v1::LoginRequest};
use tonic::Code;

use crate::{
    deployment::{Deployment, NO_LIMITS},
    statistics::{Times, area_under_curve},
};

/// How many.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Samples {
    /// Failed logins of each kind [10 to 100000].
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    samples: u32,
}

pub(crate) async fn run(backend: Backend, samples: &Samples) {
    let deployment = Deployment::start(backend, &NO_LIMITS).await;
    deployment.register("known").await;
    let fail = async |identifier: &str| -> Duration {
        let request = LoginRequest {
            identifier: identifier.to_owned(),
            password: "not the password".to_owned(),
            ..LoginRequest::default()
        };
        let mut client = deployment.auth();
        let start = Instant::now();
        let answer = client.login(request).await;
        let time = start.elapsed();
        assert_eq!(answer.expect_err("refused").code(), Code::Unauthenticated);
        time
    };
    // The first calls warm up.
    for _ in 0..20 {
        fail("known").await;
        fail("nobody").await;
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for sample in 0..samples.samples {
        // In turns, and each as often first as second, so that what the machine does meanwhile falls on both.
        if sample % 2 == 0 {
            known.push(fail("known").await);
            unknown.push(fail("nobody").await);
        } else {
            unknown.push(fail("nobody").await);
            known.push(fail("known").await);
        }
    }
    let area = area_under_curve(&known, &unknown);
    println!("failed logins, {backend:?}: area under the curve {area:.3} (0.5: cannot be told apart)");
    println!("  known user:   {}", Times::new(known));
    println!("  unknown user: {}", Times::new(unknown));
}
