//! What the program does besides serving: one file a command.

mod after_restore;
mod create_admin;
mod create_service_account;

use std::fmt;

use shared::{
    config::{DatabaseArgs, StartError},
    db::{Db, MigrationLock, bring_up_to_date},
    secret_files::SecretFiles,
};

pub use self::{after_restore::AfterRestore, create_admin::CreateAdmin, create_service_account::CreateServiceAccount};
use crate::MIGRATIONS;

/// A database that a command may write to: it is there, and up to date. Whoever migrates or starts waits for the lock.
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
