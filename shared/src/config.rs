//! How a program reads its settings and how it ends.
//!
//! Settings are clap options that also read the environment, so `--help` is the reference. A bad setting ends the program with
//! exit code 64 (`EX_USAGE` of sysexits.h), everything else that goes wrong with 1.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::{
    db::{self, Backend, DatabaseSettings, DatabaseUrl, Db, MigrateError, MigrationLock, Migrations},
    secret_files::SecretFiles,
    server::{raise_descriptor_limit, shutdown_signal},
    telemetry::{self, TelemetrySettings},
};

/// For threads that block when everything else has ended.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Pause before a start goes on whose database went away.
const OUTAGE_PAUSE: Duration = Duration::from_millis(250);

/// `EX_USAGE`.
const USAGE: u8 = 64;

/// Which database, and how hard it is used.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// `sqlite:<file>`, or `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=<file>` with sslmode
    /// disable, prefer, require, verify-ca or verify-full.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// URL of the same PostgreSQL database past the pooler, if `--database-url` leads to one that shares connections between
    /// transactions, such as PgBouncer in transaction mode. LISTEN, migrations and leases use it.
    #[arg(long, env = "DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true)]
    pub database_direct_url: Option<SecretString>,
    /// File with the password for PostgreSQL, if the URL has none: a line of text.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Connections at a time [1 to 1000] [default: 4 for each core, at least 8 and at most 32].
    #[arg(long, env = "DATABASE_CONNECTIONS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: Option<u32>,
    /// Seconds to wait for a connection before a call is answered with UNAVAILABLE [1 to 60].
    #[arg(long, env = "DATABASE_ACQUIRE_SECONDS", default_value_t = 5, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60))]
    pub database_acquire_seconds: u32,
    /// Seconds that PostgreSQL may work on one statement [1 to 600].
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
    /// The file that holds the database password, with the setting that names it.
    pub fn secret_file(&self) -> (&'static str, Option<&Path>) {
        ("--database-password-file", self.database_password_file.as_deref())
    }

    /// The settings, checked. The error repeats nothing of the URL, which may hold a password; clap's would.
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
                "--database-direct-url: this URL and --database-url must both be of PostgreSQL".to_owned(),
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

/// The command `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Seconds to wait for a database that is not there yet [0 to 3600].
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
    /// Brings the database up to date, and says what was applied.
    pub async fn run(self, migrations: &'static Migrations) -> Result<(), StartError> {
        self.run_with(migrations, async |_| Ok(())).await
    }

    /// Migrates like [`Self::run`], and then calls `finish` under the same lock, for work that SQL cannot do.
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
        // Where it is not there by then, the migration says why.
        if let Ok(false) = tokio::time::timeout(patience, db.wait_until_available(&stop)).await {
            return Err(StartError::failed("stopped before the database was there"));
        }
        let mut lock = MigrationLock::acquire(&db).await?;
        let applied = lock.apply(migrations).await?;
        finish(&db).await?;
        drop(lock);
        #[expect(clippy::print_stdout, reason = "what the command answers")]
        if applied.is_empty() {
            println!("the database is up to date");
        } else {
            println!("applied {}", applied.join(", "));
        }
        Ok(())
    }
}

/// Why a program did not start, or did not end well.
#[derive(Debug)]
pub enum StartError {
    /// A setting is wrong. Exit code 64.
    Setting(String),
    /// Anything else. Exit code 1.
    Failed(String),
    /// The database is out of reach, or takes no writes now. A service waits and tries again; a command ends with exit code 1.
    Outage(String),
    /// What a command answers by its exit code.
    Code(u8, String),
}

impl StartError {
    /// A setting is wrong.
    pub fn setting(error: impl fmt::Display) -> Self {
        Self::Setting(error.to_string())
    }

    /// Something else went wrong.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<&db::Error> for StartError {
    fn from(error: &db::Error) -> Self {
        if error.is_outage() {
            Self::Outage(error.to_string())
        } else {
            Self::failed(error)
        }
    }
}

impl From<db::Error> for StartError {
    fn from(error: db::Error) -> Self {
        Self::from(&error)
    }
}

impl From<MigrateError> for StartError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Database(error) => error.into(),
            MigrateError::Pooler(error) => Self::setting(error),
            error => Self::failed(error),
        }
    }
}

/// Waits until the database takes writes, and prepares it; once more if the database goes away meanwhile. `None` if `stop` was
/// cancelled first.
pub async fn when_available<T, F: Future<Output = Result<T, StartError>>>(
    db: &Db,
    stop: &CancellationToken,
    prepare: impl Fn() -> F,
) -> Result<Option<T>, StartError> {
    while db.wait_until_available(stop).await {
        let Some(outcome) = stop.run_until_cancelled(prepare()).await else {
            break;
        };
        match outcome {
            Err(StartError::Outage(error)) => {
                tracing::warn!(error, "the database went away during the start");
                tokio::time::sleep(OUTAGE_PAUSE).await;
            }
            outcome => return outcome.map(Some),
        }
    }
    Ok(None)
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(text) | Self::Failed(text) | Self::Outage(text) | Self::Code(_, text) => f.write_str(text),
        }
    }
}

/// Reads the settings. An environment variable that is empty counts as one that is not set, as templates of deployments leave it where
/// there is nothing to say.
fn parse<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, clap::Error> {
    let mut command = without_empty_variables(P::command());
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommands(without_empty_variables).mut_args(|argument| {
        #[expect(
            clippy::disallowed_methods,
            reason = "clap tells an empty variable from a missing one, and deployments do not"
        )]
        let is_empty = argument
            .get_env()
            .and_then(env::var_os)
            .is_some_and(|value| value.is_empty());
        if is_empty { argument.env(None) } else { argument }
    })
}

/// The body of a `main`: reads the settings, runs, and turns the outcome into an exit code, with one line on standard
/// error where it is not good.
pub fn run<P: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    main: impl AsyncFnOnce(P) -> Result<(), StartError>,
) -> ExitCode {
    let settings = match parse::<P>(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nobody is left to tell where the terminal is gone.
            let _ = error.print();
            return if wrong {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(StartError::failed).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let outcome = main(settings).await;
            telemetry::traces::flush().await;
            outcome
        });
        // What still blocks a thread, such as a hash that nobody waits for any more, does not hold up the end.
        runtime.shutdown_timeout(LAST_WAIT);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "the one line that a person sees, whatever the log settings"
            )]
            {
                eprintln!("error: {error}");
            }
            match error {
                StartError::Setting(_) => ExitCode::from(USAGE),
                StartError::Failed(_) | StartError::Outage(_) => ExitCode::FAILURE,
                StartError::Code(code, _) => ExitCode::from(code),
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn the_password_of_a_file_is_that_of_both_urls() {
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
    fn there_is_nothing_past_a_file() {
        let (file, server) = ("sqlite:auth.db", "postgres://kim@db/auth");
        for (url, direct) in [(file, server), (server, file), (file, file)] {
            let error = settings(&["--database-url", url, "--database-direct-url", direct]).unwrap_err();
            assert!(matches!(&error, StartError::Setting(_)), "{error}");
        }
    }
}
