//! The program while its database moves from a primary to a hot standby and back.

use std::time::{Duration, Instant};

use proto::auth::v1::auth_service_client::AuthServiceClient;
use testing::{
    block_on,
    endpoint::Endpoint,
    postgres::Cluster,
    program::{Addresses, Program, get, not_serving, serving},
    rpc::{channel, reason},
};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{
    feed::stream::{SECRET, end, message, watch},
    program::start::ProgramSetup,
    support::registration,
};

/// Timeout that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time within which writes succeed once the database accepts them again.
const SOON: Duration = Duration::from_secs(5);

/// Database names, and the parameters of their URLs. `usual` accepts only a writable server, which
/// is the default. `pooled` accepts any server, as behind a pooler that silently leads to a
/// standby.
const CONNECTIONS: [(&str, &str); 2] = [("usual", ""), ("pooled", "?target_session_attrs=any")];

async fn try_register(at: Addresses, login: &str) -> Result<(), Status> {
    let mut client = AuthServiceClient::new(channel(at.grpc));
    client.register(registration(login)).await.map(drop)
}

fn serve(setup: &ProgramSetup) -> Program {
    let accounts = format!(r#"[{{"client_id": "game-service", "secret": "{SECRET}"}}]"#);
    let accounts = setup.write("accounts.json", &accounts);
    let unlimited = ["--registration-rate-per-minute", "0"];
    setup.serve(
        &[
            &unlimited[..],
            &["--service-accounts-file", accounts.to_str().expect("UTF-8")],
        ]
        .concat(),
    )
}

#[test]
fn readiness_streams_and_writes_follow_a_fail_over() {
    block_on(async {
        let (primary, standby) = Cluster::start_with_standby();
        let endpoint = Endpoint::to(primary.address()).await;
        for (name, attributes) in CONNECTIONS {
            endpoint.move_to(primary.address());
            primary.create_database(name).await;
            standby.wait_for_database(name).await;
            let setup = ProgramSetup::at(format!("{}{attributes}", endpoint.url(name)));
            let program = serve(&setup);
            let at = program.addresses().await;
            serving(at.grpc).await;
            try_register(at, "ann").await.expect("registered");
            let mut feed = watch(at.grpc, "", 0).await;
            message(&mut feed).await;

            endpoint.move_to(standby.address());
            endpoint.cut();
            not_serving(at.grpc).await;
            assert_eq!(get(at.http, "/readyz").await.0, 503);
            for _ in 0..5 {
                let refused = try_register(at, "nobody").await.expect_err("nothing can be written");
                assert_eq!(
                    (refused.code(), reason(&refused).as_str()),
                    (Code::Unavailable, "DATABASE_UNAVAILABLE")
                );
            }
            if name == "pooled" {
                // A standby can be read, but its data may be stale, so the stream ends.
                assert_eq!(end(&mut feed).await.code(), Code::Unavailable);
            }

            endpoint.move_to(primary.address());
            let since = Instant::now();
            let mut attempt = 0;
            let register = async {
                while let Err(refused) = try_register(at, &format!("bob{attempt}")).await {
                    assert_eq!(reason(&refused), "DATABASE_UNAVAILABLE");
                    attempt += 1;
                }
            };
            timeout(SOON, register).await.expect("writes succeed again");
            assert!(since.elapsed() < SOON);
            serving(at.grpc).await;
            assert_eq!(get(at.http, "/readyz").await.0, 200);
            for index in 0..30 {
                try_register(at, &format!("cal{index}")).await.expect("registered");
            }
            message(&mut watch(at.grpc, "", 0).await).await;
        }
    });
}

#[test]
fn a_start_against_a_standby_waits_and_says_why() {
    block_on(async {
        let (primary, standby) = Cluster::start_with_standby();
        for (name, attributes) in CONNECTIONS {
            primary.create_database(name).await;
            standby.wait_for_database(name).await;
            let endpoint = Endpoint::to(standby.address()).await;
            let setup = ProgramSetup::at(format!("{}{attributes}", endpoint.url(name)));
            let program = serve(&setup);
            let at = program.addresses().await;
            let waiting = program.logged("waiting for the database").await;
            let why = waiting["error"].as_str().expect("why");
            assert!(why.contains("the server is a standby"), "{why}");
            timeout(PATIENCE, endpoint.accepts(2)).await.expect("it tries again");
            assert_eq!(get(at.http, "/readyz").await.0, 503);
            endpoint.move_to(primary.address());
            endpoint.cut();
            serving(at.grpc).await;
            assert_eq!(
                program.times_logged(&["waiting for the database", "the server is a standby"]),
                1
            );
        }
    });
}
