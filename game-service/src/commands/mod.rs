//! What the program does besides serving: one file a command.

mod recompute_leaderboard;
mod seed;

use std::time::Duration;

use base::{StartError, secret_files::SecretFiles};
use db::{DatabaseArgs, Db, MigrationLock, bring_up_to_date};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use self::{recompute_leaderboard::RecomputeLeaderboard, seed::SeedPlayers};
use crate::MIGRATIONS;

/// A database that a command works on beside the service: it is there, and up to date.
async fn open(database: &DatabaseArgs, secret_files: SecretFiles) -> Result<Db, StartError> {
    secret_files.check([database.secret_file()])?;
    let db = Db::connect_beside(&database.settings()?)
        .await
        .map_err(StartError::failed)?;
    let mut lock = MigrationLock::acquire(&db).await?;
    bring_up_to_date(&mut lock, &MIGRATIONS, false).await?;
    Ok(db)
}

/// Shows on standard error how far something is. Where that is no terminal it shows nothing.
fn progress_bar(length: u64) -> Result<ProgressBar, StartError> {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta} left");
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5))
        .with_style(style.map_err(StartError::failed)?.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}
