//! `game-service recompute-leaderboard`.

use base::{StartError, secret_files::SecretFiles};
use db::DatabaseArgs;
use indicatif::ProgressBar;

use crate::domain::{Drift, Progress, Recompute};

/// Maximum number of differences that are printed. Further ones are only counted.
const MAX_PRINTED: u64 = 100;

/// The command `recompute-leaderboard`.
#[derive(Clone, Debug, clap::Args)]
pub struct RecomputeLeaderboard {
    /// Change nothing, and exit with 1 if there is a difference.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

#[derive(Default)]
struct Report {
    bar: Option<ProgressBar>,
    size: (u64, u64),
    histories: u64,
    stats: u64,
}

impl RecomputeLeaderboard {
    /// Compares history and stats with the finished games. Repairs the differences unless `--check`
    /// is given. The service can keep running meanwhile.
    pub async fn run(self) -> Result<(), StartError> {
        let recompute = Recompute {
            db: super::open(&self.database, self.secret_files).await?,
            repairs: !self.check,
        };
        let mut report = Report::default();
        let done = recompute.run(&mut report).await;
        report.end();
        done.map_err(StartError::failed)?;
        let (games, players) = report.size;
        let found = report.found();
        print(&format!(
            "compared {games} games and {players} players: the histories of {} games and the statistics of {} players \
            differ",
            report.histories, report.stats
        ));
        if found == 0 {
            print("the leaderboard matches the finished games");
        } else if self.check {
            return Err(StartError::Failed(format!(
                "found {found} differences and changed nothing; run recompute-leaderboard without --check to repair \
                them"
            )));
        } else {
            print("repaired: the leaderboard matches the finished games");
        }
        Ok(())
    }
}

impl Report {
    const fn found(&self) -> u64 {
        self.histories + self.stats
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Report {
    fn begins(&mut self, games: u64, players: u64) {
        self.size = (games, players);
        self.bar = super::progress_bar(games + players).ok();
        if let Some(bar) = &self.bar {
            bar.set_message("games and players");
        }
    }

    fn compared(&mut self, more: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(more);
        }
    }

    fn found(&mut self, drift: &Drift) {
        match drift {
            Drift::History(..) => self.histories += 1,
            Drift::Stats(..) => self.stats += 1,
        }
        let found = Self::found(self);
        let line = match found {
            ..=MAX_PRINTED => drift.to_string(),
            _ if found == MAX_PRINTED + 1 => "further differences are counted but not shown".to_owned(),
            _ => return,
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| print(&line)),
            None => print(&line),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(line: &str) {
    println!("{line}");
}
