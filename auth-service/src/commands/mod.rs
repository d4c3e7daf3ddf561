//! What the program does besides serving: one file a command.

mod after_restore;
mod create_admin;
mod create_service_account;

use std::fmt;

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::{DatabaseArgs, Db, Migrate, MigrationLock, bring_up_to_date};

pub use self::{after_restore::AfterRestore, create_admin::CreateAdmin, create_service_account::CreateServiceAccount};
use crate::{MIGRATIONS, domain::recompute_stale_keys};

/// Migrates the tables, and then recomputes the keys that an older version of this program has
/// stored.
pub async fn migrate(command: Migrate) -> Result<(), StartError> {
    let finish = async |db: &Db| Ok(recompute_stale_keys(db, &Clock::system()).await?);
    command.run_with(&MIGRATIONS, finish).await
}

/// A database that a command may write to: it is there, and up to date. Whoever migrates or starts
/// waits for the lock.
async fn open(database: &DatabaseArgs, secret_files: SecretFiles) -> Result<(Db, MigrationLock), StartError> {
    secret_files.check([database.secret_file()])?;
    let db = Db::connect_when_free(&database.settings()?)
        .await
        .map_err(StartError::failed)?;
    let mut lock = MigrationLock::acquire(&db).await?;
    bring_up_to_date(&mut lock, &MIGRATIONS, false).await?;
    Ok((db, lock))
}

/// An argument that cannot be used.
fn bad(what: &str, error: &dyn fmt::Display) -> StartError {
    StartError::Setting(format!("{what}: {error}"))
}
