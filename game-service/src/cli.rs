//! The command line of game-service: `serve` and the maintenance commands.

use access::{settings::VerifierSettings, token::KeySource, view::SilenceSettings};
use base::{StartError, clock::Clock, listen::Listener};
use clap::{Args, Parser, Subcommand};
use db::{DatabaseArgs, Db, Migrate};
use server::{Probe, ServiceArgs};

use crate::{
    GameService, MIGRATIONS, VerificationKeys,
    commands::{RecomputeLeaderboard, SeedPlayers},
    config::GameSettings,
};

/// Plays tic-tac-toe, keeps every finished game and ranks the players.
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
    /// Compare the leaderboard with the finished games and repair it. The service can keep running.
    RecomputeLeaderboard(RecomputeLeaderboard),
    /// Add players and finished games, for a demonstration or a benchmark.
    Seed(SeedPlayers),
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    settings: GameSettings,
    #[command(flatten)]
    verifier: VerifierSettings,
    #[command(flatten)]
    silence: SilenceSettings,
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
            Command::Probe(probe) => probe.run("http://127.0.0.1:50052").await,
            Command::Migrate(migrate) => migrate.run(&MIGRATIONS).await,
            Command::RecomputeLeaderboard(recompute) => recompute.run().await,
            Command::Seed(seed) => seed.run().await,
        }
    }
}

impl Serve {
    async fn run(self) -> Result<(), StartError> {
        let files = [self.verifier.secret_file(), self.database.secret_file()];
        self.service.begin("game-service", files)?;
        let database = self.database.settings()?;
        let follower = self.verifier.follower()?;
        let grpc = Listener::bind(self.settings.game_listen, "--game-listen").await?;
        let http = Listener::bind(self.settings.game_http_listen, "--game-http-listen").await?;
        let running = self.service.running()?;
        tracing::info!(grpc = %grpc.address(), http = %http.address(), database = %database.url, "starting");
        let service = GameService {
            settings: &self.settings,
            server: &self.service.server,
            token_issuer: &self.verifier.token_issuer,
            token_audiences: self.verifier.audiences("game-service"),
            keys: match follower {
                Some(follower) => VerificationKeys::Follow(Box::new(follower), self.silence.rule()),
                None => VerificationKeys::From(KeySource::from(&self.verifier), self.verifier.keys_refresh()),
            },
            db: Db::connect(&database).await?,
            clock: Clock::system(),
            grpc,
            http,
        };
        service.spawn(self.migrate, &running).await?;
        running.wait().await
    }
}
