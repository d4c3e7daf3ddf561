//! `auth-service create-admin`: creates an administrator, such as the first one. It needs access to
//! the database, but no account.

use std::{io, path::PathBuf};

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::DatabaseArgs;
use secrecy::{ExposeSecret as _, SecretString};

use super::bad;
use crate::{
    config::{BreachedPasswordSettings, read_password, without_final_newline},
    domain::{Email, Error, HashingPool, HashingSettings, Login, Password, PasswordRules, create_admin},
    generate_password,
};

/// The command `create-admin`.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateAdmin {
    /// Login of the administrator.
    #[arg(long)]
    login: String,
    /// E-mail address of the administrator.
    #[arg(long)]
    email: String,
    /// File with the password, or `-` for standard input. By default a password is generated and
    /// printed once. It neither expires nor has to be changed at the first login.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    breached: BreachedPasswordSettings,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

impl CreateAdmin {
    /// Creates the user with the roles `superuser`, `admin` and `player`, and prints its id. Can
    /// run while services use the same PostgreSQL database.
    pub async fn run(self) -> Result<(), StartError> {
        let file = self.password_file.as_deref();
        self.secret_files.check([("--password-file", file)])?;
        let login: Login = self.login.parse().map_err(|error| bad("--login", &error))?;
        let email: Email = self.email.parse().map_err(|error| bad("--email", &error))?;
        let (text, is_generated) = self.password()?;
        let password = Password::chosen(text.expose_secret(), PasswordRules::default())
            .map_err(|error| bad("the password", &error))?;
        if password.is_login_or_email(Some(&login), Some(&email)) {
            return Err(bad("the password", &"must not be the login or the e-mail address"));
        }
        let breached = self.breached.open()?;
        let (db, _) = super::open(&self.database, self.secret_files).await?;
        let hashing = HashingPool::new(HashingSettings::default()).map_err(StartError::failed)?;
        let hashing = hashing.with_breached(breached);
        let made = create_admin(&db, &hashing, &Clock::system(), (login, email), password).await;
        let id = made.map_err(|error| match error {
            Error::UserAlreadyExists(fields) => {
                let names: Vec<&str> = fields.iter().map(|taken| taken.field.as_ref()).collect();
                StartError::Failed(format!("another user already has this {}", names.join(" and ")))
            }
            // All other fields were checked above.
            Error::Fields(_) => bad("the password", &"must not be one that is known from a data breach"),
            error => StartError::Failed(format!("cannot create the administrator: {error}")),
        })?;
        #[expect(clippy::print_stdout, reason = "the output of the command")]
        if is_generated {
            println!(
                "created {} with the id {id} and the password {}",
                self.login,
                text.expose_secret()
            );
        } else {
            println!("created {} with the id {id}", self.login);
        }
        Ok(())
    }

    /// Returns the password, and whether it was generated here.
    fn password(&self) -> Result<(SecretString, bool), StartError> {
        let Some(path) = &self.password_file else {
            return Ok((generate_password(), true));
        };
        let text = if path.as_os_str() == "-" {
            let text = io::read_to_string(io::stdin()).map(SecretString::from);
            text.map(|text| SecretString::from(without_final_newline(text.expose_secret())))
        } else {
            read_password(path)
        };
        let text = text.map_err(|error| bad(&format!("--password-file {}", path.display()), &error))?;
        Ok((text, false))
    }
}
