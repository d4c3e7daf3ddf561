//! The data folder: the databases, the server secret, the first administrator's password, and mails
//! that no mail server takes. Only one process at a time can use it.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use auth_service::{ServerSecrets, generate_password};
use base::{StartError, secret_files};
use db::{DatabaseSettings, DatabaseUrl};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;

const SECRET: &str = "server-secret";
const PASSWORD: &str = "admin-password";
const MAIL: &str = "mail";

/// An open data folder. Its lock keeps other processes out until it is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder, and creates it if it does not exist. Fails if another process uses it.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |error: io::Error| {
            StartError::Failed(format!(
                "cannot use the data folder {} (--data-dir): {error}",
                path.display()
            ))
        };
        if path.to_str().is_none() {
            let name = path.display();
            return Err(StartError::Setting(format!(
                "the name of the data folder {name} (--data-dir) must be UTF-8"
            )));
        }
        if path.exists() && !path.is_dir() {
            return Err(failed(io::Error::other("it is not a folder")));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::Failed(format!(
                "the data folder {} (--data-dir) is in use by another process",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the settings of the database with this name.
    pub(crate) fn database(&self, name: &str) -> Result<DatabaseSettings, StartError> {
        let url = DatabaseUrl::file(&self.database_file(name)).map_err(StartError::failed)?;
        Ok(DatabaseSettings::new(url))
    }

    /// Returns the server secret, and creates it at the first start. Fails if the secret is missing
    /// but the database exists.
    pub(crate) fn server_secret(&self) -> Result<ServerSecrets, StartError> {
        let file = self.path.join(SECRET);
        let text = match read(&file)? {
            Some(text) => text,
            // A new secret could not decrypt what the old one has encrypted.
            None if self.database_file("auth").exists() => {
                return Err(StartError::Failed(format!(
                    "{} is missing; put it back",
                    file.display()
                )));
            }
            None => self.keep(&file, ServerSecrets::generate())?,
        };
        let secrets = text.expose_secret().parse();
        secrets.map_err(|error| StartError::Failed(format!("{}: {error}", file.display())))
    }

    /// Returns the password for the first administrator. It is stored before the administrator is
    /// created, so that it cannot be lost.
    pub(crate) fn admin_password(&self) -> Result<SecretString, StartError> {
        let file = self.admin_password_file();
        match read(&file)? {
            Some(text) => Ok(SecretString::from(text.expose_secret().trim_end())),
            None => self.keep(&file, generate_password()),
        }
    }

    /// Deletes the file with the first administrator's password as soon as `changed` returns, so
    /// that it does not end up in back-ups for longer than necessary.
    pub(crate) async fn forget_admin_password(
        file: PathBuf,
        changed: impl AsyncFnOnce(SecretString) -> Result<(), StartError>,
    ) {
        let forgotten = async {
            let Some(text) = read(&file)? else {
                return Ok(false);
            };
            changed(SecretString::from(text.expose_secret().trim_end())).await?;
            fs::remove_file(&file).map(|()| true).map_err(StartError::failed)
        };
        let file = file.display();
        match forgotten.await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(%file, "deleted the file with the first administrator's password, which has been \
                    changed");
            }
            Err(error) => {
                tracing::warn!(%error, %file, "cannot check whether the administrator has changed the password in \
                    this file");
            }
        }
    }

    pub(crate) fn admin_password_file(&self) -> PathBuf {
        self.path.join(PASSWORD)
    }

    /// Returns the folder to which mails are written if there is no mail server.
    pub(crate) fn mail_folder(&self) -> PathBuf {
        self.path.join(MAIL)
    }

    fn database_file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.db"))
    }

    /// Writes a file that only its owner can read, either completely or not at all. Fails if the
    /// file exists.
    fn keep(&self, file: &Path, text: SecretString) -> Result<SecretString, StartError> {
        let write = || {
            let mut temporary = NamedTempFile::new_in(&self.path)?;
            temporary.write_all(text.expose_secret().trim_end().as_bytes())?;
            temporary.write_all(b"\n")?;
            temporary.as_file().sync_all()?;
            temporary.persist_noclobber(file).map_err(|error| error.error)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| StartError::Failed(format!("cannot write {}: {error}", file.display())))?;
        Ok(text)
    }
}

/// Reads a file that this program made, or returns `None` if there is none. Refuses a link, which
/// another user must have made, and a file that is open to others.
fn read(file: &Path) -> Result<Option<SecretString>, StartError> {
    let failed = |error: io::Error| StartError::Failed(format!("cannot read {}: {error}", file.display()));
    match fs::symlink_metadata(file) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            return Err(failed(io::Error::other(
                "it is a link or a folder; put the file itself there",
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    if let Some(fault) = secret_files::fault(file) {
        return Err(StartError::Failed(fault));
    }
    fs::read_to_string(file)
        .map(|text| Some(SecretString::from(text)))
        .map_err(failed)
}
