//! Commands other than `serve` and `probe`. Each has its own file, except the short `migrate`.

mod after_restore;
mod create_admin;
mod create_service_account;
mod import_users;
mod imported_passwords;

use std::{fmt, time::Duration};

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::{DatabaseArgs, Db, Migrate, MigrationLock, bring_up_to_date};

pub use self::{
    after_restore::AfterRestore, create_admin::CreateAdmin, create_service_account::CreateServiceAccount,
    import_users::ImportUsers, imported_passwords::ImportedPasswordsCommand,
};
use crate::{MIGRATIONS, domain::recompute_stale_name_keys};

/// Migrates the schema, then recomputes the lookup keys of users that an older version of this
/// program stored.
pub async fn migrate(command: Migrate) -> Result<(), StartError> {
    let finish = async |db: &Db| Ok(recompute_stale_name_keys(db, &Clock::system()).await?);
    command.run_with(&MIGRATIONS, finish).await
}

/// Opens the database for a command that writes to it. Fails if migrations are pending. While the
/// returned lock is held, migrations and starting services wait.
async fn open(database: &DatabaseArgs, secret_files: SecretFiles) -> Result<(Db, MigrationLock), StartError> {
    secret_files.check([database.secret_file()])?;
    let db = Db::connect_when_free(&database.settings()?)
        .await
        .map_err(StartError::failed)?;
    let mut lock = MigrationLock::acquire(&db).await?;
    bring_up_to_date(&mut lock, &MIGRATIONS, false).await?;
    Ok((db, lock))
}

/// Opens the database for a command that runs beside the service, even on SQLite. Fails if the
/// database does not exist or if migrations are pending.
async fn open_beside(database: &DatabaseArgs, secret_files: SecretFiles) -> Result<Db, StartError> {
    secret_files.check([database.secret_file()])?;
    let db = Db::connect_beside(&database.settings()?)
        .await
        .map_err(StartError::failed)?;
    let mut lock = MigrationLock::acquire(&db).await?;
    bring_up_to_date(&mut lock, &MIGRATIONS, false).await?;
    Ok(db)
}

/// Waits for half as long as a transaction of a long command has taken. Meanwhile others can write
/// to a SQLite file, which has one writer at a time.
async fn pause_after(transaction: Duration) {
    tokio::time::sleep((transaction / 2).min(Duration::from_millis(100))).await;
}

/// Returns the error for an argument that cannot be used.
fn bad(what: &str, error: &dyn fmt::Display) -> StartError {
    StartError::Setting(format!("{what}: {error}"))
}
