//! Command line: `serve`, and the commands for operators.

use base::{StartError, clock::Clock, listen::Listener};
use clap::{Args, Parser, Subcommand};
use db::{DatabaseArgs, Db, Migrate};
use server::{Probe, ServiceArgs};

use crate::{
    AuthService,
    commands::{self, AfterRestore, CreateAdmin, CreateServiceAccount, ImportUsers, ImportedPasswordsCommand},
    config::{AuthSettings, SecretSettings},
};

/// Issues and rotates tokens; owns users and sessions.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gRPC and HTTP until SIGTERM or Ctrl-C.
    Serve(Box<Serve>),
    /// Migrate the database to the current schema and exit.
    Migrate(Migrate),
    /// Check whether a running service is healthy. Exit codes: 0 serving, 2 not reachable, 3
    /// unknown service, 4 not serving.
    Probe(Probe),
    /// Create an administrator with the role superuser: the first one, or an additional one.
    CreateAdmin(CreateAdmin),
    /// Secure a database that was restored from a backup: end all sessions and refuse all earlier
    /// tokens.
    AfterRestore(AfterRestore),
    /// Create an account for another service and print its secret.
    CreateServiceAccount(CreateServiceAccount),
    /// Import users and their password hashes from another system. Services can keep running. Exit
    /// codes: 0 all imported, 1 not completed (run it again to go on), 2 invalid lines, 64 bad
    /// setting.
    ImportUsers(ImportUsers),
    /// Show which imported password hashes are left, and remove those that nobody uses. Services
    /// can keep running.
    ImportedPasswords(ImportedPasswordsCommand),
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    settings: AuthSettings,
    #[command(flatten)]
    secret: SecretSettings,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    service: ServiceArgs,
    /// Whether to apply pending migrations at the start. If false, the service fails to start while
    /// migrations are pending.
    #[arg(long, env = "MIGRATE", default_value_t = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    #[arg(help_heading = "Database")]
    migrate: bool,
}

impl Cli {
    /// Runs the command that was given.
    pub async fn run(self) -> Result<(), StartError> {
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::CreateAdmin(create) => create.run().await,
            Command::AfterRestore(restore) => restore.run().await,
            Command::CreateServiceAccount(create) => create.run().await,
            Command::ImportUsers(import) => import.run().await,
            Command::ImportedPasswords(passwords) => passwords.run().await,
            Command::Probe(probe) => probe.run("http://127.0.0.1:50051").await,
            Command::Migrate(migrate) => commands::migrate(migrate).await,
        }
    }
}

impl Serve {
    async fn run(self) -> Result<(), StartError> {
        let files = [self.secret.secret_file(), self.database.secret_file()];
        let files = files.into_iter().chain(self.settings.secret_files());
        self.service.begin("auth-service", files)?;
        let secrets = self.secret.read()?;
        let database = self.database.settings()?;
        let grpc = Listener::bind(self.settings.auth_listen, "--auth-listen").await?;
        let http = Listener::bind(self.settings.auth_http_listen, "--auth-http-listen").await?;
        let running = self.service.running()?;
        tracing::info!(grpc = %grpc.address(), http = %http.address(), database = %database.url, "starting");
        let service = AuthService {
            settings: &self.settings,
            server: &self.service.server,
            db: Db::connect(&database).await?,
            secrets,
            service_accounts: self.settings.service_accounts()?,
            clock: Clock::system(),
            grpc,
            http,
        };
        service.spawn(self.migrate, &running).await?;
        running.wait().await
    }
}
