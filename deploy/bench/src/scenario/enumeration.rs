//! Whether the duration of a call that anyone may make reveals that a user or a guest exists.
//!
//! Each call is made in turn about somebody who exists and about nobody, first on an idle server
//! and then beside a load: all the calls at once, and readers.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};
use proto::auth::v1::{
    ChangeEmailRequest, ConfirmEmailChangeRequest, GetMeRequest, IssueServiceTokenRequest, LoginGuestRequest,
    LoginRequest, RegisterGuestRequest, RequestEmailVerificationRequest, RequestPasswordResetRequest,
    ResetPasswordRequest, RevertEmailChangeRequest, VerifyEmailRequest, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient,
};
use testing::rpc::{channel, with_token};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use super::Setup;
use crate::{
    deployment::{Deployment, NO_LIMITS, User},
    report::{Goal, Report, Row, Spread, Unit},
    statistics::{Times, area_under_curve},
};

/// Options for the number of calls.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Samples {
    /// Number of calls of each kind, about somebody who exists and about nobody [10 to 100000].
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    samples: u32,
}

/// Largest distance of the area under the curve from one half.
const LIMIT: f64 = 0.05;
/// Number of calls of each kind that warm up.
const WARM_UP: u32 = 20;
/// Number of connections with readers, beside the calls that are measured.
const READERS: usize = 4;
const WRONG: &str = "not the password";
/// Code in the form that links have.
const LINKED: &str = "AAAAAAAAAAAAAAAAAAAAAA";

type Answer = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// A call, about somebody who exists or about nobody.
struct Probe {
    rpc: &'static str,
    what: &'static str,
    /// Calls about somebody who exists, and about nobody.
    calls: [Box<dyn Fn() -> Answer + Send + Sync>; 2],
    /// Code with which both are answered.
    code: Code,
    /// Pause after each call.
    pause: Duration,
}

impl Probe {
    /// Creates a call with a connection of its own. `known` and `unknown` are whom it is about.
    fn new<C, F>(
        (rpc, what): (&'static str, &'static str),
        client: C,
        [known, unknown]: [&str; 2],
        call: impl Fn(C, String) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        C: Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let about = |whom: &str| -> Box<dyn Fn() -> Answer + Send + Sync> {
            let (client, whom, call) = (client.clone(), whom.to_owned(), call.clone());
            Box::new(move || call(client.clone(), whom.clone()).boxed())
        };
        Self {
            rpc,
            what,
            calls: [about(known), about(unknown)],
            code: Code::Unauthenticated,
            pause: Duration::ZERO,
        }
    }

    /// Measures the calls about somebody who exists, and about nobody.
    async fn measure(&self, samples: u32) -> [Vec<Duration>; 2] {
        let mut times = [Vec::new(), Vec::new()];
        for sample in 0..samples + WARM_UP {
            // The two alternate, and each is first as often as second. So other activity of the
            // machine affects both alike.
            for turn in 0..2 {
                let kind = usize::from((sample + turn) % 2 == 1);
                let start = Instant::now();
                let answer = (self.calls[kind])().await;
                let elapsed = start.elapsed();
                let code = answer.map_or_else(|refused| refused.code(), |()| Code::Ok);
                assert_eq!(code, self.code, "{}", self.rpc);
                if sample >= WARM_UP {
                    times[kind].push(elapsed);
                }
                tokio::time::sleep(self.pause).await;
            }
        }
        times
    }
}

pub(crate) async fn run(setup: &Setup<'_>, samples: &Samples, report: &mut Report) {
    let mails = tempfile::tempdir().expect("a temporary folder");
    let mails = mails.path().to_str().expect("UTF-8");
    let arguments = [&NO_LIMITS[..], &["--mail-folder", mails]].concat();
    let deployment = Deployment::start(setup.engine, &arguments).await;
    let user = deployment.register_users(1).await.remove(0);
    let guest = deployment.auth().register_guest(RegisterGuestRequest::default()).await;
    let guest = guest.expect("a guest").into_inner().guest_credential;
    let probes = probes(&deployment, &user, &guest);
    let backend = Some(setup.engine.backend());
    let mut add = |probe: &Probe, beside: &str, times| {
        let name = match probe.rpc {
            "Login" => format!("enumeration by time{beside}"),
            rpc => format!("enumeration by time, {rpc}{beside}"),
        };
        let (area, what) = told_apart(probe.what, times);
        let figure = (Spread::once((area - 0.5).abs()), Unit::Share);
        report.add(Row::new(name, backend, what, figure, Goal::AtMost(LIMIT)));
    };
    for probe in &probes {
        add(probe, "", probe.measure(samples.samples).await);
    }
    let readers = readers(&deployment, &user);
    let all = join_all(probes.iter().map(|probe| probe.measure(samples.samples))).await;
    drop(readers);
    for (probe, times) in probes.iter().zip(all) {
        add(probe, ", beside a load", times);
    }
}

/// Returns the area under the curve, and a sentence about it.
fn told_apart(call: &str, [known, unknown]: [Vec<Duration>; 2]) -> (f64, String) {
    let area = area_under_curve(&known, &unknown);
    let what = format!(
        "how well the time of {call} tells who exists (0.5 is not at all, 1 is always; area under the curve): \
         {area:.3}, at most {LIMIT} from 0.5; who exists {}, nobody {}",
        known.into_iter().collect::<Times>(),
        unknown.into_iter().collect::<Times>()
    );
    (area, what)
}

/// Starts clients that read until the returned set is dropped.
fn readers(deployment: &Deployment, user: &User) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let mut client = AccountServiceClient::new(channel(deployment.auth_address));
        let token = user.access_token.clone();
        readers.spawn(async move {
            loop {
                let me = client.get_me(with_token(GetMeRequest {}, &token)).await;
                me.expect("the user");
            }
        });
    }
    readers
}

/// Returns all calls by which a caller who is not signed in could learn that somebody exists.
fn probes(deployment: &Deployment, user: &User, guest_credential: &str) -> Vec<Probe> {
    let auth = || AuthServiceClient::new(channel(deployment.auth_address));
    let account = || AccountServiceClient::new(channel(deployment.auth_address));
    let logins = [user.login.as_str(), "nobody"];
    let nobody = Uuid::new_v4().to_string();
    let ids = [user.id.as_str(), nobody.as_str()];
    let guest_id = guest_credential.split('.').nth(1).expect("an id").to_owned();
    let mut probes = vec![
        Probe::new(("Login", "a failed login"), auth(), logins, log_in),
        Probe::new(("ResetPassword", "a wrong code"), auth(), logins, reset_password),
        Probe::new(
            ("LoginGuest", "a wrong credential"),
            auth(),
            [guest_id.as_str(), nobody.as_str()],
            log_guest_in,
        ),
        Probe::new(
            ("RevertEmailChange", "a wrong code"),
            account(),
            ids,
            revert_email_change,
        ),
    ];
    probes.push(Probe::new(
        ("IssueServiceToken", "a wrong secret"),
        auth(),
        ["game-service", "no-service"],
        issue_service_token,
    ));
    let by_password: [(&str, AccountCall); 4] = [
        ("VerifyEmail", verify_email),
        ("RequestEmailVerification", request_email_verification),
        ("ChangeEmail", change_email),
        ("ConfirmEmailChange", confirm_email_change),
    ];
    for (rpc, call) in by_password {
        probes.push(Probe::new((rpc, "a wrong password"), account(), logins, call));
    }
    probes.push(Probe {
        code: Code::Ok,
        // The job that answers requests keeps up with this rate.
        pause: Duration::from_millis(2),
        ..Probe::new(
            ("RequestPasswordReset", "a request for a code"),
            auth(),
            logins,
            request_password_reset,
        )
    });
    probes
}

type AccountCall = fn(AccountServiceClient<Channel>, String) -> Answer;

async fn log_in(mut client: AuthServiceClient<Channel>, identifier: String) -> Result<(), Status> {
    let request = LoginRequest {
        identifier,
        password: WRONG.to_owned(),
        ..LoginRequest::default()
    };
    client.login(request).await.map(drop)
}

async fn reset_password(mut client: AuthServiceClient<Channel>, identifier: String) -> Result<(), Status> {
    let request = ResetPasswordRequest {
        identifier,
        code: "2222-2222".to_owned(),
        new_password: "purple elephants".to_owned(),
        new_password_confirmation: "purple elephants".to_owned(),
        ..ResetPasswordRequest::default()
    };
    client.reset_password(request).await.map(drop)
}

async fn request_password_reset(mut client: AuthServiceClient<Channel>, identifier: String) -> Result<(), Status> {
    let request = RequestPasswordResetRequest {
        identifier,
        ..RequestPasswordResetRequest::default()
    };
    client.request_password_reset(request).await.map(drop)
}

async fn log_guest_in(mut client: AuthServiceClient<Channel>, user_id: String) -> Result<(), Status> {
    let request = LoginGuestRequest {
        guest_credential: format!("g1.{user_id}.{}", "A".repeat(43)),
        ..LoginGuestRequest::default()
    };
    client.login_guest(request).await.map(drop)
}

async fn issue_service_token(mut client: AuthServiceClient<Channel>, client_id: String) -> Result<(), Status> {
    let request = IssueServiceTokenRequest {
        client_id,
        client_secret: WRONG.to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    client.issue_service_token(request).await.map(drop)
}

async fn revert_email_change(mut client: AccountServiceClient<Channel>, user_id: String) -> Result<(), Status> {
    let request = RevertEmailChangeRequest {
        user_id,
        code: LINKED.to_owned(),
    };
    client.revert_email_change(request).await.map(drop)
}

fn verify_email(mut client: AccountServiceClient<Channel>, identifier: String) -> Answer {
    let request = VerifyEmailRequest {
        code: LINKED.to_owned(),
        identifier,
        password: WRONG.to_owned(),
    };
    async move { client.verify_email(request).await.map(drop) }.boxed()
}

fn request_email_verification(mut client: AccountServiceClient<Channel>, identifier: String) -> Answer {
    let request = RequestEmailVerificationRequest {
        identifier,
        password: WRONG.to_owned(),
    };
    async move { client.request_email_verification(request).await.map(drop) }.boxed()
}

fn change_email(mut client: AccountServiceClient<Channel>, identifier: String) -> Answer {
    let request = ChangeEmailRequest {
        email: "another@example.test".to_owned(),
        current_password: WRONG.to_owned(),
        identifier,
    };
    async move { client.change_email(request).await.map(drop) }.boxed()
}

fn confirm_email_change(mut client: AccountServiceClient<Channel>, identifier: String) -> Answer {
    let request = ConfirmEmailChangeRequest {
        code: LINKED.to_owned(),
        identifier,
        password: WRONG.to_owned(),
    };
    async move { client.confirm_email_change(request).await.map(drop) }.boxed()
}
