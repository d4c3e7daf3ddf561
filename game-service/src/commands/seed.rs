//! `game-service seed`.

use rand::{SeedableRng as _, rngs::StdRng};
use shared::{
    clock::Clock,
    config::{DatabaseArgs, StartError},
};

use crate::domain::Seed;

/// The command `seed`.
#[derive(Clone, Debug, clap::Args)]
pub struct SeedPlayers {
    /// How many players [2 to 10000000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=10_000_000))]
    players: u64,
    /// How many finished games between them, and some against the computer [0 to 100000000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    games: u64,
    /// The same number makes the same players play the same games, a second time on another database. By default one is drawn by lot.
    #[arg(long, value_name = "N")]
    random_seed: Option<u64>,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl SeedPlayers {
    /// Adds players and finished games. The players have no accounts. The service may run meanwhile.
    pub async fn run(self) -> Result<(), StartError> {
        let random_seed = self.random_seed.unwrap_or_else(rand::random);
        let seed = Seed {
            db: super::open(&self.database).await?,
            random: StdRng::seed_from_u64(random_seed),
            now: Clock::system().now(),
            players: self.players,
            games: self.games,
        };
        let bar = super::progress_bar(self.games)?;
        bar.set_message("games");
        let done = seed.run(|games| bar.inc(games)).await;
        let elapsed = bar.elapsed();
        bar.finish_and_clear();
        done.map_err(StartError::failed)?;
        #[expect(clippy::print_stdout, reason = "what the command answers")]
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
