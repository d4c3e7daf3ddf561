//! The `migrate` command of a service's program.

use std::time::Duration;

use base::{
    StartError,
    running::shutdown_signal,
    secret_files::SecretFiles,
    telemetry::{self, TelemetrySettings},
};

use crate::{DatabaseArgs, Db, MigrationLock, Migrations};

/// The command `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Seconds to wait for a database that cannot be reached yet [0 to 3600].
    #[arg(
        long,
        env = "MIGRATE_WAIT_SECONDS",
        default_value_t = 0,
        value_name = "SECONDS",
        help_heading = "Database"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3600))]
    wait_seconds: u32,
    #[command(flatten)]
    secret_files: SecretFiles,
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

impl Migrate {
    /// Applies all pending migrations, and prints their versions.
    pub async fn run(self, migrations: &'static Migrations) -> Result<(), StartError> {
        self.run_with(migrations, async |_| Ok(())).await
    }

    /// Migrates like [`Self::run`], and then calls `finish` under the same lock, for work that SQL
    /// cannot do.
    pub async fn run_with(
        self,
        migrations: &'static Migrations,
        finish: impl AsyncFnOnce(&Db) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        telemetry::init(&self.telemetry, "migrate")?;
        self.secret_files.check([self.database.secret_file()])?;
        let db = Db::connect_when_free(&self.database.settings()?)
            .await
            .map_err(StartError::failed)?;
        let stop = shutdown_signal().map_err(StartError::failed)?;
        let patience = Duration::from_secs(self.wait_seconds.into());
        // If the database is still not available after that, the migration reports why.
        if let Ok(false) = tokio::time::timeout(patience, db.wait_until_available(&stop)).await {
            return Err(StartError::failed("stopped before the database could be reached"));
        }
        let mut lock = MigrationLock::acquire(&db).await?;
        let applied = lock.apply(migrations).await?;
        finish(&db).await?;
        drop(lock);
        #[expect(clippy::print_stdout, reason = "the output of the command")]
        if applied.is_empty() {
            println!("the database is up to date");
        } else {
            println!("applied {}", applied.join(", "));
        }
        Ok(())
    }
}
