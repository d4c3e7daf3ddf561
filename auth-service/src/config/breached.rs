//! The setting for passwords that nobody may choose.

use std::path::PathBuf;

use base::StartError;

use crate::domain::BreachedPasswords;

/// Passwords that are refused because they are known from data breaches.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Passwords")]
pub struct BreachedPasswordSettings {
    /// File with the SHA-1 hashes of passwords from data breaches, which are then refused wherever
    /// a password is set. Each line is 40 hexadecimal digits, a colon and a number, and the lines
    /// are sorted, like the list of haveibeenpwned.com. The file is searched on the disk, so it may
    /// be larger than the memory.
    #[arg(long, env = "BREACHED_PASSWORDS", value_name = "FILE")]
    pub breached_passwords: Option<PathBuf>,
}

impl BreachedPasswordSettings {
    /// Opens and checks the file, if there is one.
    pub(crate) fn open(&self) -> Result<Option<BreachedPasswords>, StartError> {
        let Some(path) = &self.breached_passwords else {
            return Ok(None);
        };
        let opened = BreachedPasswords::open(path);
        let opened =
            opened.map_err(|error| StartError::Setting(format!("--breached-passwords {}: {error}", path.display())))?;
        Ok(Some(opened))
    }
}
