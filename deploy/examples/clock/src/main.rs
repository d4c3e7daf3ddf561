//! `clock`: a service that depends only on auth-service. It has no database and links no database
//! crate.

use std::{env, net::SocketAddr, process::ExitCode};

use access::{
    settings::VerifierSettings,
    token::KeySet,
    view::{AccessView, SilenceSettings},
};
use base::{StartError, clock::Clock, listen::Listener, program};
use clap::Parser;
use server::{Service, ServiceArgs};
use tonic::{Request, Response, Status, service::Routes};

use self::messages::{
    GetTimeRequest, GetTimeResponse,
    clock_service_server::{ClockService, ClockServiceServer},
};

/// The code that `build.rs` generates from the proto.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
mod messages {
    tonic::include_proto!("clock.v1");
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clock.binpb"));
}

/// Tells the time to everybody who is logged in.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    /// Address on which gRPC is served.
    #[arg(
        long,
        env = "CLOCK_LISTEN",
        default_value = "127.0.0.1:50054",
        value_name = "ADDRESS", value_parser = base::listen::parse_address
    )]
    listen: SocketAddr,
    /// Address on which HTTP is served: /metrics, /livez, /readyz.
    #[arg(
        long,
        env = "CLOCK_HTTP_LISTEN",
        default_value = "127.0.0.1:8084",
        value_name = "ADDRESS", value_parser = base::listen::parse_address
    )]
    http_listen: SocketAddr,
    #[command(flatten)]
    verifier: VerifierSettings,
    #[command(flatten)]
    silence: SilenceSettings,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Serves the time of this clock.
#[derive(Debug)]
struct ClockRpc {
    clock: Clock,
}

fn main() -> ExitCode {
    program::run(env::args_os(), async |cli: Cli| cli.serve().await)
}

impl Cli {
    async fn serve(self) -> Result<(), StartError> {
        self.service.begin("clock", [self.verifier.secret_file()])?;
        let follower = self.verifier.follower()?;
        let follower = follower.ok_or_else(|| {
            StartError::setting("this example takes its keys from the access feed, so --auth-client-id is required")
        })?;
        let clock = Clock::system();
        let grpc = Listener::bind(self.listen, "--listen").await?;
        let http = Listener::bind(self.http_listen, "--http-listen").await?;
        tracing::info!(grpc = %grpc.address(), http = %http.address(), "starting");
        let keys = KeySet::empty();
        let access = AccessView::following(keys.clone(), clock.clone()).with_silence(self.silence.rule());
        let service = Service {
            settings: &self.service.server,
            descriptor_set: messages::FILE_DESCRIPTOR_SET,
            verifier: self.verifier.verifier("clock", keys, clock.clone()),
            access: access.clone(),
            backing: (),
            clock: &clock,
            grpc,
            http,
        };
        let running = self.service.running()?;
        let service = service.start(&running).await?;
        follower.spawn(access, service.policies(), &running);
        service.serve(Routes::new(ClockServiceServer::new(ClockRpc { clock })));
        running.wait().await
    }
}

#[tonic::async_trait]
impl ClockService for ClockRpc {
    async fn get_time(&self, _: Request<GetTimeRequest>) -> Result<Response<GetTimeResponse>, Status> {
        Ok(Response::new(GetTimeResponse {
            time: Some(self.clock.now().into()),
        }))
    }
}
