//! REST through the gateway: Envoy, which turns it into gRPC.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use db::Backend;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use testing::program::Program;
use tokio::net::TcpStream;
use tonic::Status;

use super::{Setup, nakama};
use crate::{
    deployment::{CHEAP_HASHING, Deployment, NO_LIMITS, free_address, listening_within},
    load::{Caller, Processors},
    process::Processes,
    report::{Goal, Report, Rounds, Row, Spread, Unit},
};

/// Goal for the processor time of a call: of the gateway, the service and the database together.
const GOAL_MICROS: f64 = 120.0;

/// Time in which Envoy starts, which is downloaded the first time.
const INSTALLATION: Duration = Duration::from_mins(10);

/// Caller that reads its own profile by REST, on a connection that is kept alive.
struct RestGetMe {
    connection: SendRequest<Empty<Bytes>>,
    authority: String,
    token: String,
}

impl RestGetMe {
    async fn connect(authority: String, token: String) -> Self {
        let stream = TcpStream::connect(&authority).await.expect("connected");
        let (connection, driver) = handshake(TokioIo::new(stream)).await.expect("an HTTP connection");
        tokio::spawn(driver);
        Self {
            connection,
            authority,
            token,
        }
    }
}

impl Caller for RestGetMe {
    async fn call(&mut self) -> Result<(), Status> {
        let failed = |error: hyper::Error| Status::unavailable(error.to_string());
        let request = Request::get("/v1/me")
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Empty::new())
            .expect("a request");
        self.connection.ready().await.map_err(failed)?;
        let answer = self.connection.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(failed)?;
        if status.is_success() && !body.to_bytes().is_empty() {
            Ok(())
        } else {
            Err(Status::unknown(status.to_string()))
        }
    }
}

/// Measures GetMe by REST.
pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let [listen, metrics, admin] = [(); 3].map(|()| free_address().to_string());
    let (auth, auth_http, game) = (
        deployment.auth_address.to_string(),
        deployment.auth_http_address.to_string(),
        deployment.game_address().to_string(),
    );
    let run = [env!("CARGO_MANIFEST_DIR"), "..", "envoy", "run"]
        .iter()
        .collect::<PathBuf>();
    let run = run.to_str().expect("UTF-8").to_owned();
    let gateway = Program::start(
        "setsid",
        [
            "python3",
            &run,
            "--listen",
            &listen,
            "--metrics-listen",
            &metrics,
            "--admin-listen",
            &admin,
            "--auth",
            &auth,
            "--auth-http",
            &auth_http,
            "--game",
            &game,
        ],
    );
    listening_within(INSTALLATION, listen.parse().expect("an address")).await;
    let mut callers = Vec::new();
    for user in deployment.register_users(setup.connections).await {
        callers.push(RestGetMe::connect(listen.clone(), user.access_token).await);
    }
    let services = deployment.auth_processors();
    let processors = Processors {
        service: Processes::One(gateway.id()),
        database: Processes::All(vec![services.service, services.database]),
    };
    let mut rounds = Rounds::default();
    for _ in 0..setup.rounds {
        rounds.push(setup.time.drive(&mut callers, &processors).await);
    }
    let backend = Some(setup.engine.backend());
    let cpu = Spread::of(rounds.each(|slice| slice.cpu_per_call().server()));
    let what = "CPU of a call of GET /v1/me, HTTP/1.1: Envoy (service), auth-service and its database (database)";
    let row = Row::new(
        "REST GetMe",
        backend,
        what,
        (cpu, Unit::Micros),
        Goal::AtMost(GOAL_MICROS),
    );
    report.add(row.with("ours", &rounds));
    if setup.engine.backend() == Backend::Postgres {
        report.add(nakama::REST_ACCOUNT.beside("REST GetMe", backend, &rounds));
    }
}
