//! The commands other than `serve`, one file each.

mod recompute_leaderboard;
mod seed;

use std::time::Duration;

use base::{StartError, secret_files::SecretFiles};
use db::{DatabaseArgs, Db, MigrationLock, bring_up_to_date};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use self::{recompute_leaderboard::RecomputeLeaderboard, seed::SeedPlayers};
use crate::MIGRATIONS;

/// Opens the database for a command that may run beside the service. Fails if the database does not
/// exist or if migrations are pending.
async fn open(database: &DatabaseArgs, secret_files: SecretFiles) -> Result<Db, StartError> {
    secret_files.check([database.secret_file()])?;
    let db = Db::connect_beside(&database.settings()?)
        .await
        .map_err(StartError::failed)?;
    let mut lock = MigrationLock::acquire(&db).await?;
    bring_up_to_date(&mut lock, &MIGRATIONS, false).await?;
    Ok(db)
}

/// Creates a progress bar on standard error. It stays hidden if standard error is not a terminal.
fn progress_bar(length: u64) -> Result<ProgressBar, StartError> {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta} left");
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5))
        .with_style(style.map_err(StartError::failed)?.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}
