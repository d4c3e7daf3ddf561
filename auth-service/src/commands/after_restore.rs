//! `auth-service after-restore`: secures a database that was restored from a backup, before any
//! service uses it.

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::DatabaseArgs;

use crate::{config::SecretSettings, domain::after_restore};

/// The command `after-restore`.
#[derive(Clone, Debug, clap::Args)]
pub struct AfterRestore {
    #[command(flatten)]
    secret: SecretSettings,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

impl AfterRestore {
    /// Ends every session and invalidates every access token that was issued before.
    pub async fn run(self) -> Result<(), StartError> {
        self.secret_files.check([self.secret.secret_file()])?;
        let secrets = self.secret.read()?;
        let (db, lock) = super::open(&self.database, self.secret_files).await?;
        let restored = after_restore(&db, &secrets, &Clock::system()).await;
        // Replicas that are starting wait for this lock, and then find the new keys.
        drop(lock);
        let restored = restored.map_err(|error| {
            StartError::Failed(format!(
                "nothing was changed, because the command could not be completed: {error}"
            ))
        })?;
        #[expect(clippy::print_stdout, reason = "the output of the command")]
        {
            println!("ended {} sessions", restored.sessions);
            println!("replaced the signing keys: every access token from before is refused");
            println!("began a new epoch of the access feed: services that follow it start from a snapshot");
        }
        Ok(())
    }
}
