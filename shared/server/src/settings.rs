//! Settings of a server.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use rustls::ServerConfig;

use super::serve;

/// Limits of a server and its connections.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerSettings {
    /// Maximum number of unary calls in flight [1 to 1000000]. Further calls are refused with
    /// RESOURCE_EXHAUSTED. Raise it if calls are refused while processor and database are not busy.
    #[arg(long, env = "MAX_CONCURRENT_REQUESTS", default_value_t = 1024, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_concurrent_requests: u32,
    /// Maximum number of calls in flight for each user, but never more than half of
    /// --max-concurrent-requests [1 to 1000000]. Each service account gets half of
    /// --max-concurrent-requests.
    #[arg(
        long,
        env = "MAX_CONCURRENT_REQUESTS_PER_USER",
        default_value_t = 64,
        value_name = "N"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_concurrent_requests_per_user: u32,
    /// Maximum number of open streams, in addition to unary calls [1 to 1000000]. Further ones are
    /// refused with RESOURCE_EXHAUSTED.
    #[arg(long, env = "MAX_CONCURRENT_STREAMS", default_value_t = 10_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_concurrent_streams: u32,
    /// Maximum number of open connections on each port [1 to 1000000]. Further ones are closed at
    /// once. Connections from trusted proxies and from this machine do not count.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 10_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Maximum number of open connections on each port for each client address [1 to 1000000]. An
    /// IPv6 /64 network counts as one address.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 256, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections_per_address: u32,
    /// Seconds after which a connection without calls is closed gracefully [10 to 86400]. Clients
    /// reconnect by themselves.
    #[arg(long, env = "CONNECTION_IDLE_SECONDS", default_value_t = 300, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub connection_idle_seconds: u32,
    /// Memory, in MiB, for calls whose message has not arrived completely [1 to 65536]. If it is
    /// used up, the call that has been waiting longest is refused with RESOURCE_EXHAUSTED. Each
    /// client address gets at most an eighth.
    #[arg(long, env = "UNFINISHED_CALLS_MIB", default_value_t = 32, value_name = "MIB")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub unfinished_calls_mib: u32,
    /// Invalid calls that each client address, or each logged-in user, can make per minute, also in
    /// one burst [0 to 1000000]. Further ones are refused with RESOURCE_EXHAUSTED. An IPv6 /64
    /// network counts as one address; a /56 can make 4 times as many, a /48 16 times. 0 means no
    /// limit.
    #[arg(long, env = "INVALID_CALLS_PER_MINUTE", default_value_t = 300, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub invalid_calls_per_minute: u32,
    /// Maximum duration of a unary call, in seconds, unless the client sets a shorter deadline [1
    /// to 3600].
    #[arg(long, env = "REQUEST_TIMEOUT_SECONDS", default_value_t = 30, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub request_timeout_seconds: u32,
    /// Grace period for calls in flight after SIGTERM or Ctrl-C, in seconds [0 to 600]. Kubernetes
    /// must wait longer than this before it kills the process.
    #[arg(long, env = "DRAIN_TIMEOUT_SECONDS", default_value_t = 15, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=600))]
    pub drain_timeout_seconds: u32,
    /// Addresses and networks of proxies whose `X-Forwarded-For` header is trusted, such as
    /// 10.0.0.0/8,192.0.2.7,fd00::/8. By default no proxy is trusted. Set it behind a gateway, so
    /// that rate limits apply to clients and not to the gateway.
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "CIDR,...", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether clients can list the RPCs by gRPC reflection (grpc.reflection.v1 and v1alpha).
    #[arg(long, env = "REFLECTION", default_value_t = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub reflection: bool,
    /// PEM file with the certificate chain for the gRPC ports. If set, they accept only TLS.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// PEM file with the certificate authorities for client certificates. If set, clients must
    /// present a certificate.
    #[arg(long, env = "TLS_CLIENT_CA_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,
}

/// Error for a TLS file that cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({setting}): {source}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Setting that names the file.
        setting: &'static str,
        /// Error from the operating system.
        source: std::io::Error,
    },
    /// The files contain no certificate or no key, or the key does not belong to the certificate.
    #[error(
        "{} (--tls-cert-file) and {} (--tls-key-file) are not a certificate and its private key in PEM, or \
        --tls-client-ca-file holds no certificate",
        cert.display(), key.display()
    )]
    Unusable {
        /// Path of the file with the certificate.
        cert: PathBuf,
        /// Path of the file with the key.
        key: PathBuf,
    },
}

/// Parses a network. An address is a network of one address.
fn network(text: &str) -> Result<IpNet, &'static str> {
    let text = text.trim();
    let whole = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| whole()).map_err(|_| {
        if text.is_empty() {
            "must not contain an empty entry; leave the option out to trust no proxy"
        } else {
            "must be a network, such as 10.0.0.0/8 or fd00::/8, or an address, such as 10.0.0.1"
        }
    })
}

impl ServerSettings {
    /// Returns the name of the setting for the TLS key file, and the file if one is set.
    pub fn secret_file(&self) -> (&'static str, Option<&Path>) {
        ("--tls-key-file", self.tls_key_file.as_deref())
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds.into())
    }

    /// Returns the grace period for calls in flight.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_seconds.into())
    }

    /// Checks that the TLS files can be used, before anything is started.
    pub fn check(&self) -> Result<(), TlsError> {
        self.tls().map(|_| ())
    }

    /// Returns the TLS configuration of the gRPC ports, or `None` if they use plain text.
    pub(super) fn tls(&self) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        let (Some(cert), Some(key)) = (&self.tls_cert_file, &self.tls_key_file) else {
            return Ok(None);
        };
        let read = |path: &PathBuf, setting| {
            fs::read(path).map_err(|source| TlsError::Unreadable {
                path: path.clone(),
                setting,
                source,
            })
        };
        let client_ca = self.tls_client_ca_file.as_ref();
        let client_ca = client_ca.map(|file| read(file, "--tls-client-ca-file")).transpose()?;
        let config = serve::server_config(
            &read(cert, "--tls-cert-file")?,
            &read(key, "--tls-key-file")?,
            client_ca.as_deref(),
        );
        config.map(Some).ok_or_else(|| TlsError::Unusable {
            cert: cert.clone(),
            key: key.clone(),
        })
    }

    /// Returns the longest time that a connection may be without a call.
    pub(super) fn connection_idle(&self) -> Duration {
        Duration::from_secs(self.connection_idle_seconds.into())
    }

    /// Returns the memory for calls whose message has not arrived completely, in bytes.
    pub(super) fn unfinished_calls_bytes(&self) -> usize {
        usize::try_from(self.unfinished_calls_mib).map_or(usize::MAX, |mib| mib.saturating_mul(1024 * 1024))
    }
}

impl Default for ServerSettings {
    /// Returns the defaults of the command line.
    fn default() -> Self {
        Self {
            max_concurrent_requests: 1024,
            max_concurrent_requests_per_user: 64,
            max_concurrent_streams: 10_000,
            max_connections: 10_000,
            max_connections_per_address: 256,
            connection_idle_seconds: 300,
            unfinished_calls_mib: 32,
            invalid_calls_per_minute: 300,
            request_timeout_seconds: 30,
            drain_timeout_seconds: 15,
            trusted_proxies: Vec::new(),
            reflection: true,
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        server: ServerSettings,
    }

    fn trusted(text: &str) -> Result<Vec<String>, String> {
        let cli = Cli::try_parse_from(["server", "--trusted-proxies", text]).map_err(|error| error.to_string())?;
        Ok(cli.server.trusted_proxies.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn trusted_proxies_are_networks_or_addresses() {
        for (text, networks) in [
            ("10.0.0.0/8,fd00::/8", vec!["10.0.0.0/8", "fd00::/8"]),
            ("10.0.0.1", vec!["10.0.0.1/32"]),
            (
                "10.0.0.0/8, fd00::1 ,192.0.2.7",
                vec!["10.0.0.0/8", "fd00::1/128", "192.0.2.7/32"],
            ),
        ] {
            assert_eq!(trusted(text).expect(text), networks);
        }
        for (text, words) in [
            ("", "leave the option out"),
            ("10.0.0.0/8,", "an empty entry"),
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("proxy.example.com", "or an address, such as 10.0.0.1"),
            ("10.0.0.1:8080", "or an address"),
        ] {
            let error = trusted(text).expect_err(text);
            assert!(
                error.contains(words) && error.contains("--trusted-proxies"),
                "{text}: {error}"
            );
        }
    }
}
