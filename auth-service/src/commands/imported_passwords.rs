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

use super::{bad, pause_after};
use crate::domain::{HashingPool, HashingSettings, ImportedPasswords};

/// Time without a login after which a hash is shown as unused, unless the operator names a date.
const LONG_UNUSED: Duration = Duration::from_hours(180 * 24);

/// The command `imported-passwords`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportedPasswordsCommand {
    /// Date such as 2026-06-01, or time in RFC 3339. Hashes that have not been used since then
    /// count as unused. Without it, those are shown that have not been used for 180 days.
    #[arg(long, value_name = "DATE", value_parser = date)]
    unused_since: Option<Timestamp>,
    /// Remove the unused hashes. Requires --unused-since. Their users choose another password by
    /// mail, or get one from an administrator.
    #[arg(long, requires = "unused_since")]
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
        // Nothing brings a removed hash back, so a clock that may be wrong chooses none.
        let since = self.unused_since.unwrap_or_else(|| clock.now().minus(LONG_UNUSED));
        if since > clock.now() {
            return Err(bad("--unused-since", &"must not be in the future"));
        }
        let db = super::open_beside(&self.database, self.secret_files).await?;
        let hashing = HashingPool::new(HashingSettings::default()).map_err(StartError::failed)?;
        // Shown in whole seconds.
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
                "{} and stopped: {error}; run the command again to go on",
                told(removed)
            ))
        })?;
        let Some(batch) = batch else { break };
        removed += batch.removed;
        last = Some(batch.last);
        pause_after(start.elapsed()).await;
    }
    print(&told(removed));
    Ok(())
}

fn told(removed: u64) -> String {
    match removed {
        1 => "removed 1 hash".to_owned(),
        removed => format!("removed {removed} hashes"),
    }
}

/// Reads a date or a time in RFC 3339.
fn date(text: &str) -> Result<Timestamp, &'static str> {
    let time: prost_types::Timestamp = text
        .parse()
        .map_err(|_| "must be a date such as 2026-06-01, or a time such as 2026-06-01T00:00:00Z")?;
    Ok(time.into())
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(line: &str) {
    println!("{line}");
}
