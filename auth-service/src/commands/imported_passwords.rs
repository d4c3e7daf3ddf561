//! `auth-service imported-passwords`: shows which imported password hashes are left, and removes
//! those that nobody uses.

use std::time::Duration;

use base::{
    StartError,
    clock::{Clock, Timestamp},
    secret_files::SecretFiles,
};
use db::DatabaseArgs;
use tokio::time::Instant;

use super::pause_after;
use crate::domain::{HashingPool, HashingSettings, ImportedPasswords};

/// The command `imported-passwords`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportedPasswordsCommand {
    /// Number of days without a login after which an imported hash counts as unused [0 to 3650].
    #[arg(long, value_name = "DAYS", default_value_t = 180)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3650))]
    unused_days: u32,
    /// Remove the unused hashes. Their users choose another password by mail, or get one from an
    /// administrator.
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

impl ImportedPasswordsCommand {
    /// Prints a line for each scheme, and removes the unused hashes if so told. Can run while
    /// services use the same database.
    pub async fn run(self) -> Result<(), StartError> {
        let clock = Clock::system();
        let db = super::open_beside(&self.database, self.secret_files).await?;
        let hashing = HashingPool::new(HashingSettings::default()).map_err(StartError::failed)?;
        let days = Duration::from_hours(24 * u64::from(self.unused_days));
        let since = clock.now().minus(days);
        // Shown in whole seconds. A clock that is wrong is noticed by it.
        let shown = prost_types::Timestamp {
            seconds: since.as_seconds(),
            nanos: 0,
        };
        let passwords = ImportedPasswords { db, clock, hashing };
        let counts = passwords.counts(since).await;
        let counts = counts.map_err(|error| StartError::Failed(format!("cannot count the hashes: {error}")))?;
        if counts.is_empty() {
            print("no imported password hash is left");
            return Ok(());
        }
        for count in &counts {
            print(&format!(
                "{}: {} left, {} not used since {shown}",
                count.scheme, count.all, count.unused
            ));
        }
        if self.remove {
            remove(&passwords, since).await?;
        }
        Ok(())
    }
}

async fn remove(passwords: &ImportedPasswords, since: Timestamp) -> Result<(), StartError> {
    let (mut removed, mut last) = (0, None);
    loop {
        let start = Instant::now();
        let batch = passwords.remove_unused(since, last).await.map_err(|error| {
            StartError::Failed(format!(
                "removed {removed} hashes and stopped: {error}; run the command again to go on"
            ))
        })?;
        let Some(batch) = batch else { break };
        removed += batch.removed;
        last = Some(batch.last);
        pause_after(start.elapsed()).await;
    }
    print(&format!("removed {removed}"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(line: &str) {
    println!("{line}");
}
