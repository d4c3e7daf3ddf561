//! Idle clients.

use std::time::Duration;

use prost::Message as _;
use proto::auth::v1::GetClientAddressRequest;
use testing::rpc::{RawConnection, frame};
use tonic::Code;

use super::Setup;
use crate::{
    baseline::bare_rpc::GET_CLIENT_ADDRESS,
    deployment::{CHEAP_HASHING, Deployment, NO_LIMITS},
    report::{Goal, Report, Row, Spread, Unit},
};

/// Options for the number of idle clients.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Clients {
    /// Number of clients, each with one connection [1 to 10000].
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
}

/// Number of clients that call before the measurement. By then, allocations that last are made,
/// such as a thread's memory.
const WARM_UP: u32 = 200;

pub(crate) async fn run(setup: &Setup<'_>, clients: &Clients, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let service = deployment.auth_processors().service;
    let mut open = connect(&deployment, WARM_UP).await;
    let before = service.memory();
    open.extend(connect(&deployment, clients.clients).await);
    // Memory that is needed only at the beginning of a connection is free again by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kib = (service.memory() - before) * 1024.0 / f64::from(clients.clients);
    let what = format!(
        "memory of auth-service for each of {} clients that have called once and are idle",
        clients.clients
    );
    let figure = (Spread::once(kib), Unit::Kib);
    report.add(Row::new("idle connection", None, what, figure, Goal::AtMost(40.0)));
    drop(open);
}

async fn connect(deployment: &Deployment, clients: u32) -> Vec<RawConnection> {
    let mut open = Vec::new();
    for _ in 0..clients {
        let connection = RawConnection::open(deployment.auth_address).await;
        let request = frame(&GetClientAddressRequest {}.encode_to_vec());
        let answer = connection
            .call(GET_CLIENT_ADDRESS, &[], request)
            .await
            .expect("an answer");
        assert_eq!(answer.status.code(), Code::Ok);
        open.push(connection);
    }
    open
}
