//! Measures the services from outside: it builds and starts them as separate processes, drives them by gRPC over loopback, and says
//! what it saw. Nothing here fails because a machine is slow; what is never allowed to happen does fail.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod cpu;
mod deployment;
mod scenario;
mod statistics;

use std::{env, path::Path};

use clap::{Parser, Subcommand, ValueEnum};
use shared::{db::Backend, testing::block_on};

use crate::scenario::{enumeration, leaderboard, login_storm, refusal};

/// Measures auth-service and game-service. Every scenario starts both anew, on a database of its own.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    /// The databases to measure on, one after the other.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "sqlite,postgres",
        value_name = "NAME,...",
        global = true
    )]
    database: Vec<Database>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// From the acknowledged DeactivateUser to the first refusal by game-service.
    Revocation {
        #[command(flatten)]
        rounds: refusal::Rounds,
    },
    /// From the acknowledged SetRolePermissions to the first refusal by game-service of a token that is already out.
    RoleChange {
        #[command(flatten)]
        rounds: refusal::Rounds,
    },
    /// Whether the time of a failed login tells that a user exists.
    Enumeration {
        #[command(flatten)]
        samples: enumeration::Samples,
    },
    /// What the leaderboard costs with more and more players: its top, a player's rank, those around a player.
    Leaderboard {
        #[command(flatten)]
        size: leaderboard::Size,
    },
    /// Many logins at once, and what they do to the calls beside them.
    LoginStorm {
        #[command(flatten)]
        storm: login_storm::Storm,
    },
}

fn main() {
    let cli = Cli::parse();
    deployment::build(Path::new(&env::args_os().next().unwrap_or_default()));
    for database in &cli.database {
        let backend = match database {
            Database::Sqlite => Backend::Sqlite,
            Database::Postgres => Backend::Postgres,
        };
        block_on(async {
            match &cli.scenario {
                Scenario::Revocation { rounds } => refusal::deactivation(backend, rounds).await,
                Scenario::RoleChange { rounds } => refusal::role_change(backend, rounds).await,
                Scenario::Enumeration { samples } => enumeration::run(backend, samples).await,
                Scenario::Leaderboard { size } => leaderboard::run(backend, size).await,
                Scenario::LoginStorm { storm } => login_storm::run(backend, storm).await,
            }
        });
    }
}
