//! Much data: how much of a large database a call touches, compared with a small one.
//!
//! Both databases are filled by SQL, with one user in five active. The calls go to the services as
//! their operators run them. Jobs wait for 15 minutes after every start, so to measure them the
//! services run within this program, with a clock that it controls.

mod buffers;
mod calls;
mod jobs;
mod seed;

use db::Backend;
use indicatif::MultiProgress;

use self::{buffers::Touched, seed::Seed};
use super::Setup;
use crate::{
    deployment::{CHEAP_HASHING, Deployment, Game, NO_LIMITS},
    report::{Goal, Report, Row, Spread, Unit},
};

/// Options of the private server: it counts the buffers that each statement touches, vacuums tables
/// soon, and writes checkpoints seldom.
pub(crate) const SERVER_OPTIONS: &str = "-c shared_preload_libraries=pg_stat_statements -c autovacuum_naptime=5s \
     -c fsync=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=4GB \
     -c checkpoint_timeout=30min -c shared_buffers=1GB -c maintenance_work_mem=1GB \
     -c max_parallel_maintenance_workers=1";

/// Number of users in the small database.
const FEW: u64 = 10_000;
/// Goal for the buffers of a call, as a multiple of those with few users.
const GOAL: f64 = 1.5;
/// Goal for the size of a table after a purge and as many new rows, as a multiple of before.
const BLOAT: f64 = 1.05;

/// Options for the size of the large database.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Amount {
    /// Number of users, each with a session and an entry in the audit log [20000 to 100000000].
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(2 * FEW..=100_000_000))]
    users: u64,
    /// Number of games; by default a fifth of the users [2000 to 100000000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2000..=100_000_000))]
    games: Option<u64>,
    /// Number of calls of each kind [10 to 10000].
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=10_000))]
    calls: u64,
}

pub(crate) async fn run(setup: &Setup<'_>, amount: &Amount, report: &mut Report) {
    if setup.engine.backend() == Backend::Sqlite {
        println!("       scale is measured on PostgreSQL only");
        return;
    }
    let few = Seed {
        users: FEW,
        games: FEW / 5,
    };
    let many = Seed {
        users: amount.users,
        games: amount.games.unwrap_or(amount.users / 5),
    };
    let small = Box::pin(measure(setup, few, amount.calls)).await;
    let large = Box::pin(measure(setup, many, amount.calls)).await;
    for ((name, few), (_, many)) in small.touched.iter().zip(&large.touched) {
        let what = format!(
            "{:.1} buffers {} with {} users, {:.1} with {FEW}",
            many.buffers, many.unit, amount.users, few.buffers
        );
        let figure = (Spread::once(many.buffers / few.buffers), Unit::Times);
        let is_met = many.buffers <= GOAL * few.buffers;
        report.add(Row::new(
            format!("scale, {name}"),
            Some(Backend::Postgres),
            what,
            figure,
            Goal::AtMost(GOAL),
        ));
        if !is_met {
            few.explain("few");
            many.explain("many");
        }
    }
    for growth in &large.growth {
        let what = format!(
            "size after {} rows were purged and as many were added, {:.0} MiB before; {}",
            growth.rows, growth.mib_before, growth.cleaned
        );
        report.add(Row::new(
            format!("scale, growth of {}", growth.table),
            Some(Backend::Postgres),
            what,
            (Spread::once(growth.ratio), Unit::Times),
            Goal::AtMost(BLOAT),
        ));
    }
}

/// Results with one size.
#[derive(Default)]
struct Measured {
    touched: Vec<(&'static str, Touched)>,
    growth: Vec<jobs::Growth>,
}

async fn measure(setup: &Setup<'_>, seed: Seed, calls: u64) -> Measured {
    let bars = MultiProgress::new();
    // Buffers are counted by database, so that the services do not disturb each other.
    let (mut measured, game) = tokio::join!(auth(setup, seed, calls, &bars), game(setup, seed, calls, &bars));
    measured.touched.extend(game.touched);
    measured
}

async fn auth(setup: &Setup<'_>, seed: Seed, calls: u64, bars: &MultiProgress) -> Measured {
    let mut measured = Measured::default();
    let options = [NO_LIMITS.as_slice(), &CHEAP_HASHING].concat();
    let deployment = Deployment::start(setup.engine, &options).await;
    // All users have this user's password.
    deployment.register("pattern").await;
    let url = deployment.auth_database.url.clone();
    let deployment = deployment.rest_during(seed.fill_auth(&url, bars)).await;
    calls::auth(&deployment, seed, calls, &mut measured.touched).await;
    let secret = deployment.server_secret();
    deployment
        .rest_during(jobs::auth(&url, &secret, seed, &mut measured))
        .await;
    measured
}

async fn game(setup: &Setup<'_>, seed: Seed, calls: u64, bars: &MultiProgress) -> Measured {
    let mut measured = Measured::default();
    let game = Game::start(setup.engine).await;
    let url = game.database.url.clone();
    let game = game.rest_during(seed.fill_game(&url, bars)).await;
    calls::game(&game, seed, calls, &mut measured.touched).await;
    let keys = game.key_file();
    game.rest_during(jobs::game(&url, keys, &mut measured)).await;
    measured
}
