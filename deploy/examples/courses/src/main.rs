//! `courses`: a third service, and how little it takes to protect one. [`Courses::serve`] is the part to copy.

mod catalogue;
mod rpc;

use std::{env, net::SocketAddr, process::ExitCode};

use clap::Parser;
use shared::{
    authz::Policies,
    clock::Clock,
    config::{self, DatabaseArgs, StartError, when_available},
    db::{self, Db},
    feed::{AccessView, SilenceSettings},
    secret_files::SecretFiles,
    server::{GrpcServer, HttpServer, Listener, MAX_MESSAGE_LEN, Running, ServerSettings, shutdown_signal},
    telemetry::{self, TelemetrySettings},
    token::{KeySet, VerifierSettings},
};
use tonic::service::Routes;

use self::rpc::{CoursesRpc, proto};

/// Serves the catalogue of a school to everybody who is logged in.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Courses {
    /// Where gRPC is served.
    #[arg(
        long,
        env = "COURSES_LISTEN",
        default_value = "127.0.0.1:50053",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Where HTTP is served: /metrics, /livez, /readyz.
    #[arg(
        long,
        env = "COURSES_HTTP_LISTEN",
        default_value = "127.0.0.1:8083",
        value_name = "ADDRESS"
    )]
    http_listen: SocketAddr,
    #[command(flatten)]
    verifier: VerifierSettings,
    #[command(flatten)]
    silence: SilenceSettings,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
    #[command(flatten)]
    server: ServerSettings,
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

fn main() -> ExitCode {
    config::run(env::args_os(), async |courses: Courses| courses.serve().await)
}

impl Courses {
    async fn serve(self) -> Result<(), StartError> {
        telemetry::init(&self.telemetry, "courses")?;
        let files = [
            self.verifier.secret_file(),
            self.database.secret_file(),
            self.server.secret_file(),
        ];
        self.secret_files.check(files)?;
        // As whom this service is known to auth-service.
        let follower = self
            .verifier
            .follower()?
            .ok_or_else(|| StartError::setting("--auth-client-id is required"))?;
        self.server.check().map_err(StartError::setting)?;
        let db = Db::connect(&self.database.settings()?)
            .await
            .map_err(StartError::failed)?;
        let grpc = Listener::bind(self.listen, "--listen")
            .await
            .map_err(StartError::failed)?;
        let http = Listener::bind(self.http_listen, "--http-listen")
            .await
            .map_err(StartError::failed)?;
        let stop = shutdown_signal().map_err(StartError::failed)?;
        let running = Running::new(stop, self.server.drain_timeout());
        db.report(&running);
        let migrate = || async { Ok(db::migrate(&db, &catalogue::MIGRATIONS).await?) };
        if when_available(&db, running.stop_token(), migrate).await?.is_none() {
            return Ok(());
        }

        // The protection. What is known of tokens and roles: nothing yet, and so nobody may do anything.
        let keys = KeySet::empty();
        let access = AccessView::following(keys.clone(), Clock::system()).with_silence(self.silence.rule());
        // Who calls: tokens are verified here, without a call to anybody.
        let verifier = self.verifier.verifier("courses", keys, Clock::system());
        // Who may call what: as the .proto says. One layer asks both, before an RPC is reached.
        let server = GrpcServer {
            settings: &self.server,
            descriptor_set: proto::FILE_DESCRIPTOR_SET,
            verifier,
            access: access.clone(),
        };
        let (health, rpcs) = server.spawn(grpc, &running).await.map_err(StartError::setting)?;
        HttpServer::new(health.clone()).spawn(&self.server, http, &running);
        // Keys, logouts and roles come by the access feed, at once and for as long as this runs. The permissions of the .proto are made
        // known at the start, so that administrators can give them to others.
        let policies = Policies::from_descriptor_set(proto::FILE_DESCRIPTOR_SET).map_err(StartError::failed)?;
        follower.spawn(access.clone(), &policies, &running);

        let courses = CoursesRpc { db: db.clone() };
        let courses = proto::courses_service_server::CoursesServiceServer::new(courses);
        rpcs.mount(Routes::new(courses.max_decoding_message_size(MAX_MESSAGE_LEN)));
        let ready = move || {
            let (db, access) = (db.clone(), access.clone());
            async move { access.is_loaded() && db.ping().await.is_ok() }
        };
        health.spawn(ready, &running);
        running.wait().await
    }
}
