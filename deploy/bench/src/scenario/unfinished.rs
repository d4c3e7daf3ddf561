//! Calls whose message never arrives completely, and their effect on memory and on the calls beside
//! them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use h2::SendStream;
use http::Request;
use proto::auth::v1::{GetMeRequest, GetMeResponse};
use tokio::{net::TcpSocket, task::JoinSet, time::sleep};

use super::Setup;
use crate::{
    baseline::bare_rpc::GET_ME,
    deployment::{CHEAP_HASHING, Deployment, NO_LIMITS},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
    rpc::Rpc,
};

/// Options for the strength of the attack.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Attack {
    /// Number of connections, each with 125 calls [1 to 1000].
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..=1000))]
    attackers: u16,
}

const CALLS_PER_CONNECTION: usize = 125;
/// Number of bytes that each call sends of its message. 64 KiB are allowed.
const SENT: usize = 60_000;
/// Numbers of addresses of this machine that the attack comes from.
const ADDRESSES: [u8; 2] = [1, 50];
/// Number of connections that read beside the attack: enough to be a load, but not so many that
/// they wait for each other.
const BESIDE: usize = 2;
/// Memory that the attack may take, in MiB.
const GOAL: f64 = 96.0;

pub(crate) async fn run(setup: &Setup<'_>, attack: &Attack, report: &mut Report) {
    for addresses in ADDRESSES {
        let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
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
        let processors = deployment.auth_processors();
        let (mut calm, mut attacked, mut ratios) = (Rounds::default(), Rounds::default(), Vec::new());
        calm.push(setup.time.drive(&mut reads, &processors).await);
        let idle = processors.service.memory();
        let mut memory = Vec::new();
        for round in 0..setup.rounds {
            if round > 0 {
                calm.push(setup.time.drive(&mut reads, &processors).await);
            }
            processors.service.reset_peak_memory();
            let open = stall(deployment.auth_address, *attack, addresses).await;
            attacked.push(setup.time.drive(&mut reads, &processors).await);
            ratios.push(attacked.last().percentile(0.99) / calm.last().percentile(0.99));
            memory.push(processors.service.peak_memory() - idle);
            drop(open);
            // Gives the service time to close the connections of the attack.
            sleep(Duration::from_secs(1)).await;
        }
        let from = if addresses == 1 {
            "one address".to_owned()
        } else {
            format!("{addresses} addresses")
        };
        let what = format!(
            "peak memory of auth-service above idle beside {} connections from {from} with {CALLS_PER_CONNECTION} \
            calls each, of whose messages 60 KB arrive and no more",
            attack.attackers,
        );
        let name = format!("unfinished messages from {from}");
        let figure = (Spread::of(memory), Unit::Mib);
        report.add(Row::new(&name, None, what, figure, Goal::AtMost(GOAL)));
        let what = "GetMe's p99 beside them against the same without";
        let figure = (Spread::of(ratios), Unit::Times);
        let row = Row::new(format!("{name}, p99 of GetMe"), None, what, figure, Goal::AtMost(10.0));
        report.add(row.with("beside them", &attacked).with("without", &calm));
    }
}

/// Opens the connections and begins the calls. They stay open until the returned value is dropped.
async fn stall(server: SocketAddr, attack: Attack, addresses: u8) -> JoinSet<Vec<SendStream<Bytes>>> {
    let mut attackers = JoinSet::new();
    for number in 0..attack.attackers {
        let address = u8::try_from(number % u16::from(addresses)).unwrap_or_default() + 1;
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, address));
        attackers.spawn(async move {
            let streams = stalled_calls(server, from).await;
            // The streams stay open, and nothing more is sent.
            std::future::pending::<()>().await;
            streams
        });
    }
    sleep(Duration::from_secs(3)).await;
    attackers
}

async fn stalled_calls(server: SocketAddr, from: IpAddr) -> Vec<SendStream<Bytes>> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::new(from, 0))
        .expect("an address of this machine");
    let socket = socket.connect(server).await.expect("connected");
    let (send, connection) = h2::client::handshake(socket).await.expect("an HTTP/2 server");
    tokio::spawn(connection);
    let mut streams = Vec::new();
    for _ in 0..CALLS_PER_CONNECTION {
        let request =
            Request::post("http://localhost/auth.v1.AuthService/Login").header("content-type", "application/grpc");
        let request = request.body(()).expect("a request");
        let Ok(mut send) = send.clone().ready().await else {
            break;
        };
        let Ok((_answer, mut stream)) = send.send_request(request, false) else {
            break;
        };
        let _ = stream.send_data(vec![0; SENT].into(), false);
        streams.push(stream);
    }
    streams
}
