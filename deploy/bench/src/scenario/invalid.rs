//! Calls that are refused as invalid, and their effect on the calls beside them.

use proto::auth::v1::{GetMeRequest, GetMeResponse, RegisterRequest, auth_service_client::AuthServiceClient};
use testing::rpc::channel;
use tonic::{Status, transport::Channel};

use super::Setup;
use crate::{
    baseline::bare_rpc::GET_ME,
    deployment::{Deployment, NO_LIMITS, PASSWORD},
    load::Caller,
    report::{Goal, Report, Rounds, Row, Spread, Unit},
    rpc::Rpc,
};

/// Character that NFKC expands to eighteen.
const EXPANDING: &str = "\u{fdfa}";
/// Length of the e-mail address in bytes, about as much as fits into one message.
const LEN: usize = 60_000;
/// Number of connections beside the flood: enough to be a load, but not so many that they wait for
/// each other.
const BESIDE: usize = 2;

/// Caller that registers with an e-mail address that is far too long.
struct Flood {
    client: AuthServiceClient<Channel>,
    email: String,
}

impl Caller for Flood {
    async fn call(&mut self) -> Result<(), Status> {
        let request = RegisterRequest {
            email: self.email.clone(),
            login: "somebody".to_owned(),
            password: PASSWORD.to_owned(),
            password_confirmation: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        self.client.register(request).await.map(drop)
    }
}

pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &NO_LIMITS).await;
    let mut reads = Vec::new();
    for user in deployment.register_users(BESIDE).await {
        let token = std::slice::from_ref(&user.access_token);
        reads.push(Rpc::<_, GetMeResponse>::new(
            user.channel.clone(),
            GET_ME,
            token,
            GetMeRequest {},
        ));
    }
    let email = format!("{}@example.test", EXPANDING.repeat(LEN / EXPANDING.len()));
    let mut flood: Vec<Flood> = (0..setup.connections)
        .map(|_| Flood {
            client: AuthServiceClient::new(channel(deployment.auth_address)),
            email: email.clone(),
        })
        .collect();
    let processors = deployment.auth_processors();
    let (mut calm, mut flooded, mut floods) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut p50, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..setup.rounds {
        calm.push(setup.time.drive(&mut reads, &processors).await);
        let (read, refused) = tokio::join!(
            setup.time.drive(&mut reads, &processors),
            setup.time.drive(&mut flood, &processors)
        );
        flooded.push(read);
        floods.push(refused);
        p50.push(flooded.last().percentile(0.5) / calm.last().percentile(0.5));
        let slice = floods.last();
        cpu.push(slice.cpu.service / crate::statistics::as_f64(slice.refusals.len().max(1)));
    }
    let backend = Some(setup.engine.backend());
    let what = format!(
        "GetMe's p50 beside {} connections that register with an e-mail address of 60 KB, which expands, against the \
        same without",
        setup.connections
    );
    let figure = (Spread::of(p50), Unit::Times);
    let row = Row::new("invalid flood, p50 of GetMe", backend, what, figure, Goal::AtMost(10.0));
    let row = row.with("beside the flood", &flooded).with("without", &calm);
    report.add(row.with("the flood", &floods));
    let what = "processor time of auth-service for each such call, with that of the GetMe calls beside it";
    let figure = (Spread::of(cpu), Unit::Micros);
    report.add(Row::new(
        "invalid flood, a refusal",
        backend,
        what,
        figure,
        Goal::AtMost(1000.0),
    ));
}
