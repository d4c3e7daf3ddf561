//! `courses`: a third service. It shows how little code it takes to protect one: copy
//! [`Courses::serve`].

mod catalogue;
mod rpc;

use std::{env, net::SocketAddr, process::ExitCode};

use access::{
    settings::VerifierSettings,
    token::KeySet,
    view::{AccessView, SilenceSettings},
};
use base::{StartError, clock::Clock, listen::Listener, program};
use clap::Parser;
use db::{DatabaseArgs, Db};
use server::{Service, ServiceArgs};
use tonic::service::Routes;

use self::rpc::{
    CoursesRpc,
    proto::{self, courses_service_server::CoursesServiceServer},
};

/// Serves the catalogue of a school to everybody who is logged in.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Courses {
    /// Address on which gRPC is served.
    #[arg(
        long,
        env = "COURSES_LISTEN",
        default_value = "127.0.0.1:50053",
        value_name = "ADDRESS", value_parser = base::listen::parse_address
    )]
    listen: SocketAddr,
    /// Address on which HTTP is served: /metrics, /livez, /readyz.
    #[arg(
        long,
        env = "COURSES_HTTP_LISTEN",
        default_value = "127.0.0.1:8083",
        value_name = "ADDRESS", value_parser = base::listen::parse_address
    )]
    http_listen: SocketAddr,
    #[command(flatten)]
    verifier: VerifierSettings,
    #[command(flatten)]
    silence: SilenceSettings,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    program::run(env::args_os(), async |courses: Courses| courses.serve().await)
}

impl Courses {
    async fn serve(self) -> Result<(), StartError> {
        let files = [self.verifier.secret_file(), self.database.secret_file()];
        self.service.begin("courses", files)?;
        // Account with which this service signs in to auth-service.
        let follower = self.verifier.follower()?;
        let follower = follower.ok_or_else(|| StartError::setting("--auth-client-id is required"))?;
        let db = Db::connect(&self.database.settings()?).await?;
        let clock = Clock::system();

        // Protection starts here. No keys and roles are known yet, so every call is refused.
        let keys = KeySet::empty();
        let access = AccessView::following(keys.clone(), clock.clone()).with_silence(self.silence.rule());
        let service = Service {
            settings: &self.service.server,
            // Authorization: the policy of each RPC, as the .proto declares it.
            descriptor_set: proto::FILE_DESCRIPTOR_SET,
            // Authentication: tokens are verified locally, without a call to another service.
            verifier: self.verifier.verifier("courses", keys, clock.clone()),
            access: access.clone(),
            backing: db.clone(),
            clock: &clock,
            grpc: Listener::bind(self.listen, "--listen").await?,
            http: Listener::bind(self.http_listen, "--http-listen").await?,
        };
        let running = self.service.running()?;
        let service = service.start(&running).await?;
        // Keys, logouts and role changes arrive through the access feed for as long as this process
        // runs. At the start, the permissions in the .proto are registered with auth-service, so
        // that administrators can grant them.
        follower.spawn(access, service.policies(), &running);
        let migrate = || async { Ok(db::migrate(&db, &catalogue::MIGRATIONS).await?) };
        if service.prepare(migrate).await?.is_some() {
            let courses = CoursesServiceServer::new(CoursesRpc { db });
            service.serve(Routes::new(courses));
        }
        running.wait().await
    }
}
