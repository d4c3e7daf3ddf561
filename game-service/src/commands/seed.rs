//! `game-service seed`.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::DatabaseArgs;
use rand::{SeedableRng as _, rngs::StdRng};

use crate::domain::Seed;

/// The command `seed`.
#[derive(Clone, Debug, clap::Args)]
pub struct SeedPlayers {
    /// Number of players to add [2 to 10000000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=10_000_000))]
    players: u64,
    /// Number of finished games to add, most between the players and some against the computer [0
    /// to 100000000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    games: u64,
    /// Seed of the random numbers. The same seed gives the same players and moves again. By default
    /// it is random.
    #[arg(long, value_name = "N")]
    random_seed: Option<u64>,
    /// File to which the ids of the players are written, one per line, for a program that signs
    /// tokens for them.
    #[arg(long, value_name = "FILE")]
    players_file: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

impl SeedPlayers {
    /// Adds players and finished games. The players have no accounts in auth-service. The service
    /// can keep running meanwhile.
    pub async fn run(self) -> Result<(), StartError> {
        let random_seed = self.random_seed.unwrap_or_else(rand::random);
        let seed = Seed {
            db: super::open(&self.database, self.secret_files).await?,
            random: StdRng::seed_from_u64(random_seed),
            now: Clock::system().now(),
            players: self.players,
            games: self.games,
        };
        let failed =
            |error: io::Error, file: &Path| StartError::Failed(format!("cannot write {}: {error}", file.display()));
        let mut ids = match &self.players_file {
            Some(path) => Some(
                File::create(path)
                    .map(BufWriter::new)
                    .map_err(|error| failed(error, path))?,
            ),
            None => None,
        };
        let mut unwritten = None;
        let bar = super::progress_bar(self.games)?;
        bar.set_message("games");
        let done = seed
            .run(|players, games| {
                bar.inc(games);
                if let Some(ids) = &mut ids {
                    let written = players.iter().try_for_each(|id| writeln!(ids, "{id}"));
                    unwritten = unwritten.take().or(written.err());
                }
            })
            .await;
        let elapsed = bar.elapsed();
        bar.finish_and_clear();
        if let Some(ids) = &mut ids {
            unwritten = unwritten.or(ids.flush().err());
        }
        done.map_err(StartError::failed)?;
        if let (Some(path), Some(error)) = (&self.players_file, unwritten) {
            return Err(failed(error, path));
        }
        #[expect(clippy::print_stdout, reason = "the output of the command")]
        {
            println!(
                "added {} players and {} games in {:.1} s (--random-seed {random_seed})",
                self.players,
                self.games,
                elapsed.as_secs_f64()
            );
        }
        Ok(())
    }
}
