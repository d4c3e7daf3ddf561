//! Database settings of a service, as command-line options.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use base::StartError;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{Backend, DatabaseSettings, DatabaseUrl};

/// The database and its limits.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// `sqlite:<file>`, or
    /// `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=<file>`. The
    /// sslmode is one of disable, prefer (the default), require, verify-ca and verify-full.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// URL of the same PostgreSQL database without a connection pooler. Required if --database-url
    /// leads to a pooler in transaction mode, such as PgBouncer. Used for LISTEN, migrations and
    /// leases.
    #[arg(long, env = "DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true)]
    pub database_direct_url: Option<SecretString>,
    /// File with the PostgreSQL password, as a single line. Used if the URL contains no password.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Maximum number of database connections [1 to 1000] [default: 4 per core, at least 8 and at
    /// most 32]. Together, all replicas must stay below the limit of the PostgreSQL server.
    #[arg(long, env = "DATABASE_CONNECTIONS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: Option<u32>,
    /// Seconds to wait for a database connection before a call fails with UNAVAILABLE [1 to 60].
    #[arg(long, env = "DATABASE_ACQUIRE_SECONDS", default_value_t = 5, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60))]
    pub database_acquire_seconds: u32,
    /// Seconds after which PostgreSQL cancels a statement [1 to 600].
    #[arg(
        long,
        env = "DATABASE_STATEMENT_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    pub database_statement_seconds: u32,
}

impl DatabaseArgs {
    /// Returns the file with the database password, and the setting that names it.
    pub fn secret_file(&self) -> (&'static str, Option<&Path>) {
        ("--database-password-file", self.database_password_file.as_deref())
    }

    /// Checks and returns the settings. Errors never repeat the URL, which may hold a password. The
    /// URLs are parsed here because clap would repeat a bad value.
    pub fn settings(&self) -> Result<DatabaseSettings, StartError> {
        let parse = |option: &str, text: &SecretString| {
            text.expose_secret()
                .parse::<DatabaseUrl>()
                .map_err(|error| StartError::Setting(format!("{option}: {error}")))
        };
        let mut url = parse("--database-url", &self.database_url)?;
        let direct = self.database_direct_url.as_ref();
        let mut direct_url = direct.map(|text| parse("--database-direct-url", text)).transpose()?;
        if let Some(direct) = &direct_url
            && (url.backend(), direct.backend()) != (Backend::Postgres, Backend::Postgres)
        {
            return Err(StartError::Setting(
                "--database-direct-url: both this URL and --database-url must be URLs of PostgreSQL".to_owned(),
            ));
        }
        if let Some(path) = &self.database_password_file {
            let bad = |error: &dyn fmt::Display| {
                StartError::Setting(format!("--database-password-file {}: {error}", path.display()))
            };
            let text = fs::read_to_string(path).map(SecretString::from);
            let text = text.map_err(|error| bad(&error))?;
            let password = text.expose_secret().trim_end_matches(['\r', '\n']);
            url.set_password(password).map_err(|error| bad(&error))?;
            if let Some(direct) = direct_url.as_mut().filter(|direct| !direct.has_password()) {
                direct.set_password(password).map_err(|error| bad(&error))?;
            }
        }
        let usual = DatabaseSettings::new(url);
        Ok(DatabaseSettings {
            direct_url,
            max_connections: self.database_connections.unwrap_or(usual.max_connections),
            acquire_timeout: Duration::from_secs(self.database_acquire_seconds.into()),
            statement_timeout: Duration::from_secs(self.database_statement_seconds.into()),
            ..usual
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        database: DatabaseArgs,
    }

    fn settings(arguments: &[&str]) -> Result<DatabaseSettings, StartError> {
        let arguments = [&["program"], arguments].concat();
        Program::try_parse_from(arguments)
            .expect("known options")
            .database
            .settings()
    }

    #[test]
    fn the_password_file_applies_to_both_urls() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "s3cret\n").unwrap();
        let file = file.to_str().unwrap();
        for direct in ["postgres://kim@db/auth", "postgres://kim:other@db/auth"] {
            let urls = [
                "--database-url=postgres://kim@pooler/auth",
                "--database-direct-url",
                direct,
            ];
            let both = settings(&[&urls[..], &["--database-password-file", file]].concat()).unwrap();
            assert!(both.url.has_password());
            assert!(both.direct_url.unwrap().has_password());
            let neither = settings(&urls).unwrap();
            assert!(!neither.url.has_password());
        }
    }

    #[test]
    fn a_sqlite_url_excludes_a_direct_url() {
        let (file, server) = ("sqlite:auth.db", "postgres://kim@db/auth");
        for (url, direct) in [(file, server), (server, file), (file, file)] {
            let error = settings(&["--database-url", url, "--database-direct-url", direct]).unwrap_err();
            assert!(matches!(&error, StartError::Setting(_)), "{error}");
        }
    }
}
