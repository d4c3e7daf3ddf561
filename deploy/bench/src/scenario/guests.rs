//! Guests: how much their registration and their login cost.

use proto::auth::v1::{LoginGuestRequest, RegisterGuestRequest, auth_service_client::AuthServiceClient};
use testing::rpc::channel;
use tonic::{Status, transport::Channel};

use super::Setup;
use crate::{
    deployment::{Deployment, NO_LIMITS},
    load::Caller,
    report::{Goal, Report, Rounds, Row, Spread, Unit},
};

/// Goals, in microseconds of processor time per call, of service and database. Both calls are a
/// transaction of a dozen statements.
const REGISTRATION: f64 = 1500.0;
const LOGIN: f64 = 1200.0;

/// Caller that registers one guest after the other.
struct Register(AuthServiceClient<Channel>);

impl Caller for Register {
    async fn call(&mut self) -> Result<(), Status> {
        self.0.register_guest(RegisterGuestRequest::default()).await.map(drop)
    }
}

/// Guest who logs in again and again on one device.
struct Login {
    client: AuthServiceClient<Channel>,
    request: LoginGuestRequest,
}

impl Caller for Login {
    async fn call(&mut self) -> Result<(), Status> {
        self.client.login_guest(self.request.clone()).await.map(drop)
    }
}

/// Measures RegisterGuest and LoginGuest.
pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let arguments = [&NO_LIMITS[..], &["--guest-rate-per-minute", "0"]].concat();
    let deployment = Deployment::start(setup.engine, &arguments).await;
    let client = || AuthServiceClient::new(channel(deployment.auth_address));
    let (mut registrations, mut logins) = (Vec::new(), Vec::new());
    for _ in 0..setup.connections {
        registrations.push(Register(client()));
        let guest = deployment.auth().register_guest(RegisterGuestRequest::default()).await;
        let guest = guest.expect("a guest").into_inner();
        logins.push(Login {
            client: client(),
            request: LoginGuestRequest {
                guest_credential: guest.guest_credential,
                device_token: guest.device_token,
                ..LoginGuestRequest::default()
            },
        });
    }
    let processors = deployment.auth_processors();
    let (mut registered, mut logged_in) = (Rounds::default(), Rounds::default());
    for _ in 0..setup.rounds {
        registered.push(setup.time.drive(&mut registrations, &processors).await);
        logged_in.push(setup.time.drive(&mut logins, &processors).await);
    }
    for (name, rounds, goal) in [
        ("RegisterGuest", registered, REGISTRATION),
        ("LoginGuest", logged_in, LOGIN),
    ] {
        let figure = (
            Spread::of(rounds.each(|slice| slice.cpu_per_call().server())),
            Unit::Micros,
        );
        let backend = Some(setup.engine.backend());
        let what = "CPU of a call, service + database";
        let row = Row::new(name, backend, what, figure, Goal::AtMost(goal));
        report.add(row.with("ours", &rounds));
    }
}
