//! The settings of auth-service. `--help` is their reference.

mod attempts;
mod breached;
mod cookies;
mod factors;
mod guests;
mod mail;
mod password_file;

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use access::token::{DEFAULT_AUDIENCE, DEFAULT_ISSUER};
use base::StartError;
use clap::builder::NonEmptyStringValueParser;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

pub(crate) use self::password_file::{read_password, without_final_newline};
pub use self::{
    attempts::AttemptSettings,
    breached::BreachedPasswordSettings,
    cookies::{CookieOrigin, CookieSettings},
    factors::FactorSettings,
    guests::GuestSettings,
    mail::MailSettings,
};
use crate::domain::{HashingSettings, KeySchedule, PasswordRules, ServerSecrets, ServiceAccountSpec, SessionLifetimes};

/// Addresses of auth-service and its rules for tokens and passwords.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthSettings {
    /// Address on which gRPC is served.
    #[arg(
        long,
        env = "AUTH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS",
        value_parser = base::listen::parse_address
    )]
    pub auth_listen: SocketAddr,
    /// Address on which HTTP is served: /.well-known/jwks.json, /docs, /redoc, /openapi.json,
    /// /metrics, /livez, /readyz.
    #[arg(
        long,
        env = "AUTH_HTTP_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS", value_parser = base::listen::parse_address
    )]
    pub auth_http_listen: SocketAddr,
    /// Public URL of the REST gateway, which the API pages of the HTTP port call.
    #[arg(
        long,
        env = "GATEWAY_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub gateway_url: Url,

    /// Issuer (`iss`) of the access tokens. Must be the same in all services.
    #[arg(long, env = "TOKEN_ISSUER", default_value = DEFAULT_ISSUER, value_name = "NAME", help_heading = "Tokens")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub token_issuer: String,
    /// Name of the deployment: the audience (`aud`) of access tokens that are requested without an
    /// `audience`. All services of the deployment accept them. Must be the same in all services.
    #[arg(long, env = "TOKEN_AUDIENCE", default_value = DEFAULT_AUDIENCE, value_name = "NAME", help_heading = "Tokens")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub token_audience: String,
    /// Whether access tokens for the whole deployment are accepted for administration and for
    /// changes to one's own account. If false, these calls need a token with the audience
    /// `auth-service`. The default will be false in the next release.
    #[arg(
        long,
        env = "ADMIT_DEPLOYMENT_TOKENS",
        default_value_t = true,
        value_name = "BOOL",
        help_heading = "Tokens"
    )]
    #[arg(action = clap::ArgAction::Set)]
    pub admit_deployment_tokens: bool,
    /// Lifetime of the access tokens of users, in seconds [60 to 86400].
    #[arg(
        long,
        env = "ACCESS_TOKEN_SECONDS",
        default_value_t = 1800,
        value_name = "SECONDS",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(60..=86_400))]
    pub access_token_seconds: u32,
    /// Lifetime of the access tokens of services, in seconds [60 to 86400].
    #[arg(
        long,
        env = "SERVICE_TOKEN_SECONDS",
        default_value_t = 600,
        value_name = "SECONDS",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(60..=86_400))]
    pub service_token_seconds: u32,
    /// Lifetime of a refresh token that is not rotated, in seconds [300 to 31536000]. Users whose
    /// refresh token is not rotated within this time must log in again.
    #[arg(
        long,
        env = "REFRESH_TOKEN_SECONDS",
        default_value_t = 604_800,
        value_name = "SECONDS",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(300..=31_536_000))]
    pub refresh_token_seconds: u32,
    /// Maximum lifetime of a session, in seconds, however often its refresh token is rotated [300
    /// to 315360000].
    #[arg(
        long,
        env = "SESSION_SECONDS",
        default_value_t = 7_776_000,
        value_name = "SECONDS",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(300..=315_360_000))]
    pub session_seconds: u32,
    /// Seconds after a login or rotation during which a refresh token can issue access tokens.
    /// After that it must be rotated first [60 to 31536000].
    #[arg(
        long,
        env = "UNROTATED_SECONDS",
        default_value_t = 86_400,
        value_name = "SECONDS",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    pub unrotated_seconds: u32,

    /// Seconds for which a signing key is published before it signs [2 to 604800]. Should be at
    /// least twice --keys-refresh-seconds of all services that load the keys.
    #[arg(
        long,
        env = "KEY_PREPUBLISH_SECONDS",
        default_value_t = 3600,
        value_name = "SECONDS",
        help_heading = "Signing keys"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=604_800))]
    pub key_prepublish_seconds: u32,
    /// Days after which the signing key is replaced, or 0 to replace it only on request [0 to
    /// 3650]. Never happens within 15 minutes after a start or a jump of the clock.
    #[arg(
        long,
        env = "KEY_ROTATION_DAYS",
        default_value_t = 90,
        value_name = "DAYS",
        help_heading = "Signing keys"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3650))]
    pub key_rotation_days: u32,
    /// Maximum number of active sessions for each user [1 to 1000]. A further login ends the
    /// session that has been idle longest.
    #[arg(
        long,
        env = "MAX_SESSIONS_PER_USER",
        default_value_t = 20,
        value_name = "N",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_sessions_per_user: u16,
    /// Maximum number of open access feed streams for each service account, but never more than
    /// half of --max-concurrent-streams [2 to 100000]. Further ones are refused with
    /// RESOURCE_EXHAUSTED. Each replica of a service needs one, and two while it renews its token.
    #[arg(
        long,
        env = "MAX_FEED_STREAMS_PER_ACCOUNT",
        default_value_t = 256,
        value_name = "N",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub max_feed_streams_per_account: u32,
    /// Days for which a session is kept after it has ended or expired [1 to 3650]. Nothing is
    /// deleted within 15 minutes after a start or a jump of the clock.
    #[arg(
        long,
        env = "SESSION_RETENTION_DAYS",
        default_value_t = 30,
        value_name = "DAYS",
        help_heading = "Tokens"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub session_retention_days: u16,

    /// JSON file with service accounts that are created or updated at the start: an array of
    /// objects, each with client_id, either secret or secret_sha256, and optionally description,
    /// roles and permissions.
    #[arg(
        long,
        env = "SERVICE_ACCOUNTS_FILE",
        value_name = "FILE",
        help_heading = "Service accounts"
    )]
    pub service_accounts_file: Option<PathBuf>,

    /// File with the password for the first administrator. If there is no administrator yet, the
    /// user `admin` is created at the start with this password, and must change it at the first
    /// login (see --first-admin-must-change-password). Ignored afterwards.
    #[arg(
        long,
        env = "BOOTSTRAP_ADMIN_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "First administrator"
    )]
    pub bootstrap_admin_password_file: Option<PathBuf>,
    /// Password for the first administrator, instead of a file. Use the environment variable rather
    /// than the flag: other users of the machine can read command-line arguments.
    #[arg(
        long,
        env = "BOOTSTRAP_ADMIN_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        conflicts_with = "bootstrap_admin_password_file",
        help_heading = "First administrator"
    )]
    pub bootstrap_admin_password: Option<SecretString>,
    /// Whether the first administrator must change the password at the first login. Set it to false
    /// for unattended installations, so that the password stays valid.
    #[arg(
        long,
        env = "FIRST_ADMIN_MUST_CHANGE_PASSWORD",
        default_value_t = true,
        value_name = "BOOL",
        help_heading = "First administrator"
    )]
    #[arg(action = clap::ArgAction::Set)]
    pub first_admin_must_change_password: bool,

    /// Whether users can register themselves. If false, administrators create the accounts.
    #[arg(
        long,
        env = "REGISTRATION_OPEN",
        default_value_t = true,
        value_name = "BOOL",
        help_heading = "Passwords"
    )]
    #[arg(action = clap::ArgAction::Set)]
    pub registration_open: bool,
    /// Number of passwords that are hashed at the same time, each on one core and with
    /// --hashing-memory-kib [1 to 256] [default: the number of cores]
    #[arg(long, env = "HASHING_WORKERS", value_name = "N", help_heading = "Passwords")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub hashing_workers: Option<u16>,
    /// Maximum number of passwords that wait to be hashed [0 to 10000]. Further calls are refused
    /// with RESOURCE_EXHAUSTED.
    #[arg(
        long,
        env = "HASHING_QUEUE",
        default_value_t = 64,
        value_name = "N",
        help_heading = "Passwords"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub hashing_queue: u16,
    /// Memory for hashing a password, in KiB (the argon2id parameter m) [8 to 1048576]. More memory
    /// makes stolen hashes harder to crack and logins slower.
    #[arg(
        long,
        env = "HASHING_MEMORY_KIB",
        default_value_t = 19_456,
        value_name = "KIB",
        help_heading = "Passwords"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub hashing_memory_kib: u32,
    /// Number of passes over the memory of --hashing-memory-kib (the argon2id parameter t) [1 to
    /// 100].
    #[arg(
        long,
        env = "HASHING_PASSES",
        default_value_t = 2,
        value_name = "N",
        help_heading = "Passwords"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub hashing_passes: u32,
    /// Minimum length of new passwords, in characters [8 to 64].
    #[arg(
        long,
        env = "PASSWORD_MIN_LENGTH",
        default_value_t = 8,
        value_name = "N",
        help_heading = "Passwords"
    )]
    #[arg(value_parser = clap::value_parser!(u8).range(8..=64))]
    pub password_min_length: u8,

    /// Seconds for which a password that an administrator has set is valid [3600 to 7776000]. The
    /// user must replace it within this time. The passwords of the first administrator and of those
    /// made with create-admin do not expire.
    #[arg(
        long,
        env = "TEMPORARY_PASSWORD_SECONDS",
        default_value_t = 604_800,
        value_name = "SECONDS",
        help_heading = "Passwords"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(3600..=7_776_000))]
    pub temporary_password_seconds: u32,

    /// Passwords from data breaches.
    #[command(flatten)]
    pub breached: BreachedPasswordSettings,

    /// Days for which events of the audit log are kept, or 0 to keep them forever [0 to 36500].
    /// Nothing is deleted within 15 minutes after a start or a jump of the clock.
    #[arg(
        long,
        env = "AUDIT_RETENTION_DAYS",
        default_value_t = 365,
        value_name = "DAYS",
        help_heading = "Audit log"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub audit_retention_days: u32,

    /// Limits for guessing passwords.
    #[command(flatten)]
    pub attempts: AttemptSettings,
    /// Rules for guests.
    #[command(flatten)]
    pub guests: GuestSettings,
    /// Rules for second factors.
    #[command(flatten)]
    pub factors: FactorSettings,
    /// Origins whose refresh tokens travel in a cookie.
    #[command(flatten)]
    pub cookies: CookieSettings,
    /// Mails to users.
    #[command(flatten)]
    pub mail: MailSettings,
}

/// Source of the server secret.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server secret")]
#[group(required = true, multiple = false)]
pub struct SecretSettings {
    /// File with the server secret, which authenticates refresh and device tokens and encrypts the
    /// signing keys: one line with at least 32 random bytes in base64, for example from `openssl
    /// rand -base64 32`. While the secret is being replaced, a second line holds the previous one.
    #[arg(long, env = "AUTH_SECRET_FILE", value_name = "FILE")]
    pub auth_secret_file: Option<PathBuf>,
    /// Server secret, instead of a file. Use the environment variable rather than the flag: other
    /// users of the machine can read command-line arguments.
    #[arg(long, env = "AUTH_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub auth_secret: Option<SecretString>,
}

impl AuthSettings {
    /// Returns the files that hold secrets, each with the flag that names it.
    pub fn secret_files(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("--smtp-password-file", self.mail.smtp_password_file.as_deref()),
            ("--service-accounts-file", self.service_accounts_file.as_deref()),
            (
                "--bootstrap-admin-password-file",
                self.bootstrap_admin_password_file.as_deref(),
            ),
        ]
    }

    /// Reads the service accounts from the configured file. Without a file, there are none.
    pub fn service_accounts(&self) -> Result<Vec<ServiceAccountSpec>, StartError> {
        let Some(path) = &self.service_accounts_file else {
            return Ok(Vec::new());
        };
        let bad = |error: &dyn std::fmt::Display| {
            StartError::Setting(format!("--service-accounts-file {}: {error}", path.display()))
        };
        let text = fs::read_to_string(path).map(SecretString::from);
        let text = text.map_err(|error| bad(&error))?;
        ServiceAccountSpec::parse_all(text.expose_secret()).map_err(|error| bad(&error))
    }

    pub(crate) const fn has_bootstrap_password(&self) -> bool {
        self.bootstrap_admin_password.is_some() || self.bootstrap_admin_password_file.is_some()
    }

    /// Returns the password for the first administrator.
    pub(crate) fn bootstrap_password(&self) -> Result<SecretString, StartError> {
        match (&self.bootstrap_admin_password, &self.bootstrap_admin_password_file) {
            (Some(password), _) => Ok(password.clone()),
            (None, Some(path)) => read_password(path).map_err(|error| {
                StartError::Setting(format!("--bootstrap-admin-password-file {}: {error}", path.display()))
            }),
            (None, None) => Err(StartError::setting("--bootstrap-admin-password-file is required")),
        }
    }

    pub(crate) fn hashing(&self) -> HashingSettings {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        HashingSettings {
            workers: self.hashing_workers.map_or(cores, usize::from),
            queue: self.hashing_queue.into(),
            memory_kib: self.hashing_memory_kib,
            passes: self.hashing_passes,
        }
    }

    pub(crate) fn lifetimes(&self) -> SessionLifetimes {
        SessionLifetimes {
            idle: seconds(self.refresh_token_seconds),
            absolute: seconds(self.session_seconds),
            unrotated: seconds(self.unrotated_seconds),
            retention: Duration::from_hours(24 * u64::from(self.session_retention_days)),
        }
    }

    pub(crate) fn password_rules(&self) -> PasswordRules {
        PasswordRules {
            min_len: self.password_min_length.into(),
        }
    }

    pub(crate) fn temporary_password_life(&self) -> Duration {
        seconds(self.temporary_password_seconds)
    }

    /// Returns how long the audit log keeps events, or `None` if it keeps them forever.
    pub(crate) fn audit_retention(&self) -> Option<Duration> {
        (self.audit_retention_days > 0).then(|| Duration::from_hours(24 * u64::from(self.audit_retention_days)))
    }

    pub(crate) fn access_token_life(&self) -> Duration {
        seconds(self.access_token_seconds)
    }

    pub(crate) fn service_token_life(&self) -> Duration {
        seconds(self.service_token_seconds)
    }

    pub(crate) fn key_schedule(&self) -> KeySchedule {
        const DAY: Duration = Duration::from_hours(24);
        KeySchedule {
            prepublish: seconds(self.key_prepublish_seconds),
            rotation: (self.key_rotation_days > 0).then(|| DAY * self.key_rotation_days),
        }
    }

    /// Returns the longest lifetime that an access token can have.
    pub(crate) fn longest_token_life(&self) -> Duration {
        self.access_token_life().max(self.service_token_life())
    }
}

impl SecretSettings {
    /// Returns the file that holds the server secret, with the flag that names it.
    pub fn secret_file(&self) -> (&'static str, Option<&Path>) {
        ("--auth-secret-file", self.auth_secret_file.as_deref())
    }

    /// Reads the server secret. An error names the setting that is wrong, but never quotes its
    /// value.
    pub fn read(&self) -> Result<ServerSecrets, StartError> {
        if let Some(text) = &self.auth_secret {
            let secrets = text.expose_secret().parse();
            return secrets.map_err(|error| StartError::Setting(format!("--auth-secret: {error}")));
        }
        let Some(path) = &self.auth_secret_file else {
            return Err(StartError::setting("--auth-secret-file or --auth-secret is required"));
        };
        let bad = |error: &dyn std::fmt::Display| {
            StartError::Setting(format!("--auth-secret-file {}: {error}", path.display()))
        };
        let text: io::Result<SecretString> = fs::read_to_string(path).map(SecretString::from);
        text.map_err(|error| bad(&error))?
            .expose_secret()
            .parse()
            .map_err(|error| bad(&error))
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
