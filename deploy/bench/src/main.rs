//! Benchmarks of the services from outside. They build the services, start them as separate
//! processes and drive them by gRPC over loopback. Each figure is compared with a baseline that is
//! measured in the same run, alternating with the service.
//!
//! A benchmark does not fail because a machine is slow. It does fail on results that must never
//! occur.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod baseline;
mod deployment;
mod engine;
mod load;
mod process;
mod report;
mod rpc;
mod scenario;
mod statistics;

use std::{
    env,
    net::SocketAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use base::running::shutdown_signal;
use clap::{Parser, Subcommand, ValueEnum};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use testing::{block_on, postgres::Cluster};
use url::Url;

use crate::{
    engine::Engine,
    load::Time,
    report::Report,
    scenario::{
        Setup, connections, creation, enumeration, feed, footprint, gateway, guessing, guests, invalid, leaderboard,
        login, login_storm, moves, overload, reads, refusal, rotation, scale, soak, unfinished, verification,
    },
};

/// Time before anything counts, in which connections are opened and statements prepared.
const WARM_UP: Duration = Duration::from_millis(500);

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Benchmarks of auth-service and game-service. Every scenario starts them anew, on databases of
/// their own, and compares their cost with that of a baseline without them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    /// Databases to measure, one after the other.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "sqlite,postgres",
        value_name = "NAME,...",
        global = true
    )]
    database: Vec<Database>,
    /// PostgreSQL server on which the databases are created and later removed. By default a private
    /// server is started from the installed binaries. To measure its processor time, the server
    /// must run on this machine.
    #[arg(long, value_name = "URL", global = true)]
    database_url: Option<Url>,
    /// Duration of each measurement, in seconds [1 to 60].
    #[arg(long, default_value_t = 3, value_name = "SECONDS", global = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    duration: u64,
    /// Number of connections, each with one call in flight [1 to 256].
    #[arg(long, default_value_t = 32, value_name = "N", global = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Number of times that the service and the baseline are measured in turn [1 to 100].
    #[arg(long, default_value_t = 3, value_name = "N", global = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// File to which all results are written as JSON.
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// File to which a chart of all figures and their goals is written as SVG.
    #[arg(long, value_name = "FILE", global = true)]
    chart: Option<PathBuf>,
    /// File to which the figures are written as a short Markdown table.
    #[arg(long, value_name = "FILE", global = true)]
    markdown: Option<PathBuf>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Run all scenarios except `scale` and `soak`, each with its defaults.
    All,
    /// Measure an RPC without a database, compared with a bare tonic server.
    Rpc,
    /// Measure the verification of an access token, compared with that of its signature alone.
    Verification,
    /// Measure GetMe, compared with its SELECT in a loop and with a bare RPC.
    GetMe,
    /// Measure GetGame, compared with its SELECT in a loop and with a bare RPC.
    GetGame,
    /// Measure the top of the leaderboard, a rank and the neighbours of a player, compared with a
    /// bare RPC and with more players.
    Leaderboard {
        #[command(flatten)]
        size: leaderboard::Size,
    },
    /// Measure Login, compared with argon2 alone on all cores.
    Login,
    /// Measure RegisterGuest and LoginGuest.
    Guests,
    /// Measure RotateTokens, compared with its transaction in a loop.
    Rotation,
    /// Measure whole games, compared with their transactions in a loop.
    Moves,
    /// Measure GetMe by REST through Envoy, which is installed under target/ if it is not there.
    Gateway,
    /// Measure CreateGame, and short games: create, join, two moves, resign.
    Creation,
    /// Measure GetMe, RotateTokens and MakeMove during many logins, compared with the same calls
    /// alone.
    LoginStorm {
        #[command(flatten)]
        storm: login_storm::Storm,
    },
    /// Measure the time from the response of DeactivateUser until each of 10 game-services refuses
    /// the user.
    Revocation {
        #[command(flatten)]
        repeats: refusal::Repeats,
    },
    /// Measure the time from the response of SetRolePermissions until game-service refuses an
    /// existing token.
    RoleChange {
        #[command(flatten)]
        repeats: refusal::Repeats,
    },
    /// Measure ten times as many callers as there are places, compared with the peak without them.
    Overload,
    /// Measure the cost of many revocations in many verifiers.
    Feed {
        #[command(flatten)]
        amount: feed::Amount,
    },
    /// Measure the cost of idle clients.
    Connections {
        #[command(flatten)]
        clients: connections::Clients,
    },
    /// Measure memory and reads during calls whose message never arrives completely.
    Unfinished {
        #[command(flatten)]
        attack: unfinished::Attack,
    },
    /// Measure start time, memory at rest and size.
    Footprint,
    /// Measure whether the duration of a call that anyone may make, such as a failed login or a
    /// wrong code, reveals that a user or a guest exists: idle, and beside a load.
    Enumeration {
        #[command(flatten)]
        samples: enumeration::Samples,
    },
    /// Measure successful logins while many clients in one IPv6 network guess passwords.
    Guessing {
        #[command(flatten)]
        attack: guessing::Attack,
    },
    /// Measure GetMe during a flood of invalid calls, compared with GetMe alone.
    InvalidFlood,
    /// Measure how much of a large database a call touches, compared with a small one. PostgreSQL
    /// only. With 10,000,000 users it takes 40 GB and an hour.
    Scale {
        #[command(flatten)]
        amount: scale::Amount,
    },
    /// Run mixed calls at a steady rate for an hour, and record memory, descriptors and response
    /// times per minute.
    Soak {
        #[command(flatten)]
        length: soak::Length,
    },
    /// Serve the baseline of an RPC (for internal use).
    #[command(hide = true)]
    BareServer { listen: SocketAddr, answers: PathBuf },
    /// Run many followers of the access feed (for internal use).
    #[command(hide = true)]
    Verifiers {
        auth: String,
        count: u32,
        #[arg(env = "CLIENT_SECRET", hide_env_values = true)]
        client_secret: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.scenario {
        Scenario::BareServer { listen, answers } => {
            baseline::bare_rpc::serve(*listen, answers);
            return ExitCode::SUCCESS;
        }
        Scenario::Verifiers {
            auth,
            count,
            client_secret,
        } => {
            feed::verifiers(auth, *count, client_secret);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    deployment::build(Path::new(&env::args_os().next().unwrap_or_default()));
    let mut report = Report::new(env::args_os());
    let mut panicked = None;
    let mut is_interrupted = false;
    for (number, database) in cli.database.iter().enumerate() {
        let engine = cli.engine(*database);
        let setup = Setup {
            engine: &engine,
            time: Time {
                warm_up: WARM_UP,
                measured: Duration::from_secs(cli.duration),
            },
            connections: cli.connections.into(),
            rounds: cli.rounds.into(),
        };
        block_on(async {
            let stop = shutdown_signal().expect("signals can be heard");
            let run = AssertUnwindSafe(cli.scenario.run(&setup, number == 0, &mut report)).catch_unwind();
            // A cancelled run is dropped, which ends the processes that it has started.
            let ran = stop.run_until_cancelled(run).await;
            engine.clean_up().await;
            is_interrupted = ran.is_none();
            panicked = ran.and_then(Result::err);
        });
        if panicked.is_some() || is_interrupted {
            break;
        }
    }
    report.print();
    let code = cli.write(&report);
    // The report was printed and written above even if the run panicked or was interrupted.
    match panicked {
        Some(panic) => resume_unwind(panic),
        None if is_interrupted => ExitCode::from(INTERRUPTED),
        None => code,
    }
}

impl Cli {
    fn engine(&self, database: Database) -> Engine {
        match (database, &self.database_url) {
            (Database::Sqlite, _) => Engine::Sqlite,
            (Database::Postgres, Some(url)) => Engine::Given(url.clone(), Mutex::default()),
            (Database::Postgres, None) if matches!(self.scenario, Scenario::Scale { .. }) => {
                Engine::Private(Cluster::start_with_options(scale::SERVER_OPTIONS))
            }
            (Database::Postgres, None) => Engine::Private(Cluster::start_durable()),
        }
    }

    #[expect(clippy::print_stderr, reason = "an error")]
    fn write(&self, report: &Report) -> ExitCode {
        let json = self
            .json
            .as_ref()
            .map(|path| (path, report.write_json(path).map_err(Into::into)));
        let markdown = self
            .markdown
            .as_ref()
            .map(|path| (path, report.write_markdown(path).map_err(Into::into)));
        let chart = self.chart.as_ref().map(|path| (path, report.write_chart(path)));
        let mut code = ExitCode::SUCCESS;
        for (path, written) in [json, markdown, chart].into_iter().flatten() {
            if let Err(error) = written {
                eprintln!("error: cannot write {}: {error}", path.display());
                code = ExitCode::FAILURE;
            }
        }
        code
    }
}

impl Scenario {
    /// Runs the scenario. A scenario without a database runs only if `is_first`, for the first
    /// database.
    async fn run(&self, setup: &Setup<'_>, is_first: bool, report: &mut Report) {
        match self {
            Self::All => {
                for scenario in Self::all() {
                    Box::pin(scenario.run(setup, is_first, report)).await;
                }
            }
            Self::Rpc if is_first => reads::without_database(setup, report).await,
            Self::Verification if is_first => verification::run(setup, report),
            Self::GetMe => reads::get_me(setup, report).await,
            Self::GetGame => reads::get_game(setup, report).await,
            Self::Leaderboard { size } => leaderboard::run(setup, size, report).await,
            Self::Login => login::run(setup, report).await,
            Self::Guests => guests::run(setup, report).await,
            Self::Rotation => rotation::run(setup, report).await,
            Self::Moves => moves::run(setup, report).await,
            Self::Gateway => gateway::run(setup, report).await,
            Self::Creation => creation::run(setup, report).await,
            Self::LoginStorm { storm } => login_storm::run(setup, storm, report).await,
            Self::Revocation { repeats } => refusal::deactivation(setup, repeats, report).await,
            Self::RoleChange { repeats } => refusal::role_change(setup, repeats, report).await,
            Self::Overload => overload::run(setup, report).await,
            Self::Feed { amount } => feed::run(setup, amount, report).await,
            Self::Connections { clients } if is_first => connections::run(setup, clients, report).await,
            Self::Unfinished { attack } if is_first => unfinished::run(setup, attack, report).await,
            Self::Footprint if is_first => footprint::run(setup, report).await,
            Self::Enumeration { samples } => enumeration::run(setup, samples, report).await,
            Self::Guessing { attack } => guessing::run(setup, attack, report).await,
            Self::InvalidFlood => invalid::run(setup, report).await,
            Self::Scale { amount } => Box::pin(scale::run(setup, amount, report)).await,
            Self::Soak { length } => soak::run(setup, length, report).await,
            Self::Rpc
            | Self::Verification
            | Self::Connections { .. }
            | Self::Unfinished { .. }
            | Self::Footprint
            | Self::BareServer { .. }
            | Self::Verifiers { .. } => {}
        }
    }

    /// Returns all scenarios except `scale` and `soak`, with their default options.
    fn all() -> Vec<Self> {
        let names = Cli::command_names();
        names
            .iter()
            .filter(|name| !["all", "scale", "soak"].contains(&name.as_str()))
            .map(|name| Cli::parse_from(["bench", name]).scenario)
            .collect()
    }
}

impl Cli {
    fn command_names() -> Vec<String> {
        use clap::CommandFactory as _;
        let command = Self::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        shown.map(|command| command.get_name().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_valid_and_all_runs_every_scenario() {
        Cli::command().debug_assert();
        let shown = Cli::command_names();
        assert_eq!(Scenario::all().len() + 3, shown.len());
        // A default that is not valid is refused only when the arguments are parsed.
        for name in shown {
            Cli::try_parse_from(["bench", &name]).expect("it needs nothing more");
        }
    }
}
