//! Database settings: its URL, the size of its pool, and time limits.

use std::{
    fmt,
    num::NonZero,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use tokio_postgres::config::{Host, TargetSessionAttrs};

use super::{Backend, server::Server, tls};

/// Settings of a database and its connections.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// URL of the database.
    pub url: DatabaseUrl,
    /// URL of the same PostgreSQL database without a pooler in between. LISTEN, migrations and
    /// leases use it, because they need their own session. If it is given, `url` may lead to a
    /// pooler that shares connections between transactions.
    pub direct_url: Option<DatabaseUrl>,
    /// Maximum number of connections, at least 1. On SQLite, this is the number of readers; there
    /// is one writer in addition.
    pub max_connections: u32,
    /// How long a call may wait until a connection is returned to the pool or opened. On SQLite,
    /// also how long a writer may wait for its turn.
    pub acquire_timeout: Duration,
    /// How long PostgreSQL may work on one statement. SQLite runs within this process and needs no
    /// such limit.
    pub statement_timeout: Duration,
}

impl DatabaseSettings {
    /// Returns the default settings for this database: 4 connections per core, at least 8 and at
    /// most 32; 5 s to get a connection, and 10 s for a statement.
    pub fn new(url: DatabaseUrl) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            url,
            direct_url: None,
            max_connections: u32::try_from(4 * cores).unwrap_or(u32::MAX).clamp(8, 32),
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
        }
    }
}

/// `sqlite:<path>` or `postgres://user:password@host:port/database?sslmode=...`.
///
/// Neither `Display` nor `Debug` shows the password, nor does the error for a malformed URL.
/// However, clap repeats a bad value, so an option must take the text and parse it afterwards.
///
/// For PostgreSQL, `sslmode` is one of `disable`, `prefer` (the default), `require`, `verify-ca`
/// and `verify-full`, and `sslrootcert` names a PEM file; both mean the same as in libpq. Several
/// hosts, separated by commas, are the servers of one cluster, of which the one that accepts writes
/// is used. `target_session_attrs` is `read-write` (the default), `primary`, which means the same
/// here, or `any`, which connects to whichever server answers first.
#[derive(Clone)]
pub struct DatabaseUrl(Target);

#[derive(Clone)]
pub(super) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<Server>),
}

/// Reason why a text is not the URL of a database. The error never repeats the text, which may hold
/// a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseDatabaseUrlError(&'static str);

impl DatabaseUrl {
    /// Returns the URL of the SQLite database in this file.
    pub fn file(path: &Path) -> Result<Self, ParseDatabaseUrlError> {
        if path.to_str().is_none() {
            return Err(ParseDatabaseUrlError("the path of a database must be UTF-8"));
        }
        Ok(Self(Target::Sqlite(path.to_owned())))
    }

    /// Returns the backend of the URL.
    pub const fn backend(&self) -> Backend {
        match self.0 {
            Target::Sqlite(_) => Backend::Sqlite,
            Target::Postgres(_) => Backend::Postgres,
        }
    }

    /// Returns whether the URL contains a password.
    pub fn has_password(&self) -> bool {
        matches!(&self.0, Target::Postgres(server) if server.config.get_password().is_some())
    }

    /// Sets the password of a PostgreSQL URL. Fails if the URL already has one, if it names a
    /// SQLite file, or if the password is empty.
    pub fn set_password(&mut self, password: &str) -> Result<(), ParseDatabaseUrlError> {
        match &mut self.0 {
            Target::Sqlite(_) => Err(ParseDatabaseUrlError("SQLite has no passwords")),
            Target::Postgres(server) if server.config.get_password().is_some() => {
                Err(ParseDatabaseUrlError("the database URL has a password already"))
            }
            Target::Postgres(_) if password.is_empty() => Err(ParseDatabaseUrlError("the password is empty")),
            Target::Postgres(server) => {
                server.config.password(password);
                Ok(())
            }
        }
    }

    pub(super) fn target(&self) -> Target {
        self.0.clone()
    }
}

impl FromStr for DatabaseUrl {
    type Err = ParseDatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, ParseDatabaseUrlError> {
        let target = if let Some(path) = text.strip_prefix("sqlite:") {
            Target::Sqlite(sqlite_path(path)?)
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Target::Postgres(Box::new(postgres_server(text)?))
        } else {
            return Err(ParseDatabaseUrlError(
                "the database URL must begin with sqlite: or postgres://",
            ));
        };
        Ok(Self(target))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = match &self.0 {
            Target::Sqlite(path) => return write!(f, "sqlite:{}", path.display()),
            Target::Postgres(server) => &server.config,
        };
        f.write_str("postgres://")?;
        if let Some(user) = config.get_user() {
            write!(f, "{user}@")?;
        }
        for (index, host) in config.get_hosts().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match host {
                Host::Tcp(name) => f.write_str(name)?,
                Host::Unix(path) => write!(f, "{}", path.display())?,
            }
            if let Some(port) = config.get_ports().get(index).or_else(|| config.get_ports().first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, ParseDatabaseUrlError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(ParseDatabaseUrlError("sqlite: must be followed by the path of a file"));
    }
    if path.starts_with(":memory:") || path.starts_with("file:") || path.contains('?') {
        return Err(ParseDatabaseUrlError(
            "sqlite: takes the path of a file, without parameters; a database in memory cannot be shared by \
            connections",
        ));
    }
    Ok(PathBuf::from(path))
}

/// Parses the URL of a server. tokio-postgres does not know `sslrootcert`, nor all values of
/// `sslmode` and `target_session_attrs`, so these parameters are removed from the text that it
/// parses.
fn postgres_server(text: &str) -> Result<Server, ParseDatabaseUrlError> {
    let (base, query) = text.rsplit_once('?').unwrap_or((text, ""));
    let mut mode = None;
    let mut root = None;
    let mut sessions = TargetSessionAttrs::ReadWrite;
    let mut rest = String::from(base);
    let mut separator = '?';
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(ssl_mode(value)?),
            Some(("sslrootcert", value)) => root = Some(PathBuf::from(percent_decoded(value))),
            Some(("target_session_attrs", value)) => sessions = session_attributes(value)?,
            _ => {
                rest.push(separator);
                rest.push_str(pair);
                separator = '&';
            }
        }
    }
    let mode = mode.unwrap_or(tls::SslMode::Prefer);
    if root.is_some() && matches!(mode, tls::SslMode::Disable | tls::SslMode::Prefer) {
        return Err(ParseDatabaseUrlError(
            "sslrootcert has no effect unless sslmode is require, verify-ca or verify-full",
        ));
    }
    // The error's source is dropped: it may repeat parts of the text, and with them parts of the
    // password.
    let mut config = rest.parse::<tokio_postgres::Config>().map_err(|_| {
        ParseDatabaseUrlError(
            "the database URL is not understood; it looks like \
            postgres://user:password@host:port/database?sslmode=require",
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(ParseDatabaseUrlError("the database URL names no host"));
    }
    config.target_session_attrs(sessions);
    Ok(Server { config, mode, root })
}

/// Parses `target_session_attrs`. A service writes, so it cannot ask for a standby.
fn session_attributes(value: &str) -> Result<TargetSessionAttrs, ParseDatabaseUrlError> {
    match value {
        "read-write" | "primary" => Ok(TargetSessionAttrs::ReadWrite),
        "any" => Ok(TargetSessionAttrs::Any),
        _ => Err(ParseDatabaseUrlError(
            "target_session_attrs must be read-write (the default), primary or any: the database is written to",
        )),
    }
}

fn ssl_mode(value: &str) -> Result<tls::SslMode, ParseDatabaseUrlError> {
    match value {
        "disable" => Ok(tls::SslMode::Disable),
        "prefer" => Ok(tls::SslMode::Prefer),
        "require" => Ok(tls::SslMode::Require),
        "verify-ca" => Ok(tls::SslMode::VerifyCa),
        "verify-full" => Ok(tls::SslMode::VerifyFull),
        _ => Err(ParseDatabaseUrlError(
            "sslmode must be disable, prefer, require, verify-ca or verify-full",
        )),
    }
}

/// Decodes the value of a query parameter. As in libpq, `+` is a plain plus sign.
fn percent_decoded(value: &str) -> String {
    url::form_urlencoded::parse(value.replace('+', "%2B").as_bytes())
        .next()
        .map(|(value, _)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, ParseDatabaseUrlError> {
        text.parse()
    }

    #[test]
    fn a_sqlite_url_is_the_path_of_a_file() {
        for (text, path) in [
            ("sqlite:data/auth.db", "sqlite:data/auth.db"),
            ("sqlite://data/auth.db", "sqlite:data/auth.db"),
            ("sqlite:/var/lib/auth.db", "sqlite:/var/lib/auth.db"),
            ("sqlite:///var/lib/auth.db", "sqlite:/var/lib/auth.db"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.backend(), url.to_string().as_str()), (Backend::Sqlite, path));
        }
        for text in [
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite:a.db?mode=ro",
            "sqlite:file:a.db",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_given_once_and_only_to_postgres() {
        let mut url = parse("postgres://ann@db/auth").unwrap();
        assert!(url.set_password("").is_err());
        url.set_password("secret").unwrap();
        assert_eq!(url.to_string(), "postgres://ann@db:5432/auth");
        assert!(url.set_password("another").is_err());
        assert!(
            parse("postgres://ann:secret@db/auth")
                .unwrap()
                .set_password("another")
                .is_err()
        );
        assert!(parse("sqlite:auth.db").unwrap().set_password("secret").is_err());
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://kim:s3cret@db:5433/auth?sslmode=require",
            "postgresql://kim:s3cret@db:5433/auth?connect_timeout=3&sslmode=disable",
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.backend(), Backend::Postgres);
            let settings = DatabaseSettings::new(url.clone());
            assert_eq!(url.to_string(), "postgres://kim@db:5433/auth");
            assert!(!format!("{url:?} {settings:?}").contains("s3cret"));
        }
        let several = parse("postgres://kim:s3cret@one:1,two:2/auth").unwrap();
        assert_eq!(several.to_string(), "postgres://kim@one:1,two:2/auth");
    }

    #[test]
    fn malformed_urls_are_refused_without_repeating_them() {
        for text in [
            "",
            "mysql://kim:s3cret@db/auth",
            "postgres:kim:s3cret@db/auth",
            "postgres://kim:s3cret@db:port/auth",
            "postgres://kim:s3cret@db/auth?s3cret=1",
            "postgres://kim:pass?s3cret@db/auth?x=1",
            "postgres://kim:s3cret@/auth",
            "postgres://kim:s3cret@db/auth?sslmode=allow",
            "postgres://kim:s3cret@db/auth?sslrootcert=s3cret.pem",
            "postgres://kim:s3cret@db/auth?sslmode=disable&sslrootcert=s3cret.pem",
            "postgres://kim:s3cret@db/auth?target_session_attrs=standby",
            "postgres://kim:s3cret@db/auth?target_session_attrs=read-only",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn a_server_must_take_writes_unless_the_url_says_otherwise() {
        for (parameters, expected) in [
            ("", TargetSessionAttrs::ReadWrite),
            ("?sslmode=disable", TargetSessionAttrs::ReadWrite),
            ("?target_session_attrs=read-write", TargetSessionAttrs::ReadWrite),
            ("?target_session_attrs=primary", TargetSessionAttrs::ReadWrite),
            ("?connect_timeout=3&target_session_attrs=any", TargetSessionAttrs::Any),
        ] {
            let server = postgres_server(&format!("postgres://kim@one,two/auth{parameters}")).unwrap();
            assert_eq!(server.config.get_target_session_attrs(), expected, "{parameters}");
        }
    }

    #[test]
    fn parameters_unknown_to_tokio_postgres_are_removed() {
        let url =
            "postgres://kim@db/auth?application_name=a&sslrootcert=%2Fca+1%20.pem&sslmode=verify-ca&connect_timeout=3";
        let server = postgres_server(url).unwrap();
        assert_eq!(server.mode, tls::SslMode::VerifyCa);
        assert_eq!(server.root, Some(PathBuf::from("/ca+1 .pem")));
        assert_eq!(server.config.get_application_name(), Some("a"));
        assert_eq!(server.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }
}
