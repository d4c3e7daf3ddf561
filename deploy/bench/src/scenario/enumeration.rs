//! Whether the duration of a call that anyone may make reveals that a user exists.

use std::time::{Duration, Instant};

use proto::auth::v1::{LoginRequest, RequestPasswordResetRequest, ResetPasswordRequest};
use tonic::Code;

use super::Setup;
use crate::{
    deployment::{Deployment, NO_LIMITS},
    report::{Goal, Report, Row, Spread, Unit},
    statistics::{Times, area_under_curve},
};

/// Options for the number of calls.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Samples {
    /// Number of calls of each kind, for a known and for an unknown user [10 to 100000].
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    samples: u32,
}

/// Logins of the users whom the calls are about.
const KNOWN: &str = "known";
const UNKNOWN: &str = "nobody";

pub(crate) async fn run(setup: &Setup<'_>, samples: &Samples, report: &mut Report) {
    let mails = tempfile::tempdir().expect("a temporary folder");
    let mails = mails.path().to_str().expect("UTF-8");
    let arguments = [&NO_LIMITS[..], &["--mail-folder", mails]].concat();
    let deployment = Deployment::start(setup.engine, &arguments).await;
    deployment.register(KNOWN).await;
    let login = async |identifier: &str| {
        let request = LoginRequest {
            identifier: identifier.to_owned(),
            password: "not the password".to_owned(),
            ..LoginRequest::default()
        };
        let answer = deployment.auth().login(request).await;
        assert_eq!(answer.expect_err("refused").code(), Code::Unauthenticated);
    };
    let reset = async |identifier: &str| {
        let request = ResetPasswordRequest {
            identifier: identifier.to_owned(),
            code: "2222-2222".to_owned(),
            new_password: "purple elephants".to_owned(),
            new_password_confirmation: "purple elephants".to_owned(),
            ..ResetPasswordRequest::default()
        };
        let answer = deployment.auth().reset_password(request).await;
        assert_eq!(answer.expect_err("refused").code(), Code::Unauthenticated);
    };
    let request_reset = async |identifier: &str| {
        let request = RequestPasswordResetRequest {
            identifier: identifier.to_owned(),
            ..RequestPasswordResetRequest::default()
        };
        let answer = deployment.auth().request_password_reset(request).await;
        answer.expect("the same for everyone");
        // The job that answers requests keeps up with this rate.
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let rows = [
        ("enumeration by time", "a failed login", compare(samples, login).await),
        // The known user has a code.
        (
            "enumeration by time, RequestPasswordReset",
            "a request for a code",
            compare(samples, request_reset).await,
        ),
        (
            "enumeration by time, ResetPassword",
            "a wrong code",
            compare(samples, reset).await,
        ),
    ];
    for (name, call, (known, unknown)) in rows {
        let area = area_under_curve(&known, &unknown);
        let what = format!(
            "how well the time of {call} tells a user who is there (0.5 is not at all, 1 is always; area under the \
             curve): {area:.3}; known user {}, unknown user {}",
            known.into_iter().collect::<Times>(),
            unknown.into_iter().collect::<Times>()
        );
        let figure = (Spread::once((area - 0.5).abs()), Unit::Share);
        let backend = Some(setup.engine.backend());
        report.add(Row::new(name, backend, what, figure, Goal::AtMost(0.05)));
    }
}

/// Measures a call about the known user and about the unknown one.
async fn compare(samples: &Samples, call: impl AsyncFn(&str)) -> (Vec<Duration>, Vec<Duration>) {
    let time = async |identifier: &str| {
        let start = Instant::now();
        call(identifier).await;
        start.elapsed()
    };
    // The first calls warm up.
    for _ in 0..20 {
        time(KNOWN).await;
        time(UNKNOWN).await;
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for sample in 0..samples.samples {
        // The two alternate, and each is first as often as second. So other activity of the machine
        // affects both alike.
        if sample % 2 == 0 {
            known.push(time(KNOWN).await);
            unknown.push(time(UNKNOWN).await);
        } else {
            unknown.push(time(UNKNOWN).await);
            known.push(time(KNOWN).await);
        }
    }
    (known, unknown)
}
