//! Command `probe`: asks a server for its health by grpc.health.v1. It is meant for containers
//! without a shell or any other program for this purpose.
//!
//! The exit codes are those of grpc-health-probe, except for a bad setting. That is 64, as in all
//! our programs.

use std::time::Duration;

use base::{StartError, tls::tls_for};
use http::Uri;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Exit code if the server cannot be reached.
const UNREACHABLE: u8 = 2;
/// Exit code if the server does not know the service.
const UNKNOWN: u8 = 3;
/// Exit code if the service is not serving.
const NOT_SERVING: u8 = 4;

const NOT_AN_ADDRESS: &str = "must be an address such as 127.0.0.1:50051, http://host:port or https://host:port";

/// The command `probe`.
#[derive(Clone, Debug, clap::Args)]
pub struct Probe {
    /// gRPC address of the server: a URL with http:// or https://, or a host and port without TLS,
    /// such as 127.0.0.1:50051 [default: the default address of this service]
    #[arg(long, env = "PROBE_ADDRESS", value_name = "URL", value_parser = address)]
    address: Option<Uri>,
    /// Full name of one of the gRPC services, or empty for the server as a whole.
    #[arg(long, env = "PROBE_SERVICE", default_value = "", value_name = "NAME")]
    service: String,
    /// Seconds to wait for the answer [1 to 60].
    #[arg(long, env = "PROBE_TIMEOUT_SECONDS", default_value_t = 3, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60))]
    timeout_seconds: u32,
}

impl Probe {
    /// Asks the server for its health, and prints one line if it is serving. `default` is the
    /// address if none is given.
    ///
    /// # Errors
    ///
    /// Exit code 2 if the server cannot be reached, 3 if it does not know the service, and 4 if it
    /// is not serving.
    pub async fn run(self, default: &'static str) -> Result<(), StartError> {
        let address = self.address.unwrap_or_else(|| Uri::from_static(default));
        let limit = Duration::from_secs(self.timeout_seconds.into());
        let status = tokio::time::timeout(limit, ask(&address, self.service.clone()))
            .await
            .unwrap_or_else(|_| {
                let text = format!("no answer from {address} within {} s", self.timeout_seconds);
                Err(StartError::Code(UNREACHABLE, text))
            })?;
        match status {
            ServingStatus::Serving => {
                #[expect(clippy::print_stdout, reason = "the output of the command")]
                {
                    println!("serving");
                }
                Ok(())
            }
            ServingStatus::ServiceUnknown => Err(unknown(&address, &self.service)),
            ServingStatus::Unknown | ServingStatus::NotServing => {
                Err(StartError::Code(NOT_SERVING, format!("{address} is not serving")))
            }
        }
    }
}

/// Parses a URL, or a host and port.
fn address(text: &str) -> Result<Uri, &'static str> {
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let address: Uri = url.parse().map_err(|_| NOT_AN_ADDRESS)?;
    let is_web = matches!(address.scheme_str(), Some("http" | "https"));
    if is_web && address.host().is_some_and(|host| !host.is_empty()) {
        Ok(address)
    } else {
        Err(NOT_AN_ADDRESS)
    }
}

async fn ask(address: &Uri, service: String) -> Result<ServingStatus, StartError> {
    let unreachable = |error: &dyn std::error::Error| {
        // The innermost cause says most.
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        StartError::Code(UNREACHABLE, format!("cannot reach {address}: {cause}"))
    };
    let mut endpoint = Endpoint::from(address.clone());
    if let Some(tls) = tls_for(address) {
        endpoint = endpoint.tls_config(tls).map_err(|error| unreachable(&error))?;
    }
    let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
    let request = HealthCheckRequest {
        service: service.clone(),
    };
    match HealthClient::new(channel).check(request).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Err(unknown(address, &service)),
        Err(status) => Err(unreachable(&status)),
    }
}

fn unknown(address: &Uri, service: &str) -> StartError {
    StartError::Code(UNKNOWN, format!("{address} does not know the service {service:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_or_a_host_and_port() {
        for (text, url) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051/"),
            ("[::1]:50051", "http://[::1]:50051/"),
            ("auth:50051", "http://auth:50051/"),
            ("http://auth:50051", "http://auth:50051/"),
            ("https://auth.example.com", "https://auth.example.com/"),
        ] {
            assert_eq!(address(text).map(|uri| uri.to_string()), Ok(url.to_owned()), "{text}");
        }
        for text in ["", "ftp://auth", "http://", "a b", "unix:///run/auth.sock"] {
            assert_eq!(address(text), Err(NOT_AN_ADDRESS), "{text}");
        }
    }
}
