//! Whether the duration of a failed login reveals that the user exists.

use std::time::{Duration, Instant};

use proto::auth::v1::LoginRequest;
use tonic::Code;

use super::Setup;
use crate::{
    deployment::{Deployment, NO_LIMITS},
    report::{Goal, Report, Row, Spread, Unit},
    statistics::{Times, area_under_curve},
};

/// Options for the number of failed logins.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Samples {
    /// Number of failed logins of each kind [10 to 100000].
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    samples: u32,
}

pub(crate) async fn run(setup: &Setup<'_>, samples: &Samples, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &NO_LIMITS).await;
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
        // The two alternate, and each is first as often as second. So other activity of the machine
        // affects both alike.
        if sample % 2 == 0 {
            known.push(fail("known").await);
            unknown.push(fail("nobody").await);
        } else {
            unknown.push(fail("nobody").await);
            known.push(fail("known").await);
        }
    }
    let area = area_under_curve(&known, &unknown);
    let what = format!(
        "how well the time of a failed login tells a user who is there (0.5 is not at all, 1 is always; area under \
         the curve): {area:.3}; known user {}, unknown user {}",
        known.into_iter().collect::<Times>(),
        unknown.into_iter().collect::<Times>()
    );
    let figure = (Spread::once((area - 0.5).abs()), Unit::Share);
    let backend = Some(setup.engine.backend());
    report.add(Row::new(
        "enumeration by time",
        backend,
        what,
        figure,
        Goal::AtMost(0.05),
    ));
}
