use std::time::Duration;

use clap::{Parser as _, error::ErrorKind};

use super::super::{KeySource, VerifierSettings};

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    settings: VerifierSettings,
}

fn parse(args: &[&str]) -> Result<VerifierSettings, ErrorKind> {
    let args = [&["service"], args].concat();
    Cli::try_parse_from(args)
        .map(|cli| cli.settings)
        .map_err(|error| error.kind())
}

fn source(args: &[&str]) -> KeySource {
    KeySource::from(&parse(args).unwrap())
}

#[test]
fn keys_come_from_the_local_auth_service_unless_set_otherwise() {
    let auth_service = |url: &'static str| KeySource::AuthService {
        endpoint: http::Uri::from_static(url),
    };
    assert_eq!(source(&[]), auth_service("http://127.0.0.1:50051"));
    assert_eq!(
        source(&["--auth-grpc-url", "https://auth:443"]),
        auth_service("https://auth:443")
    );
    assert_eq!(
        source(&["--auth-jwks-url", "https://auth/jwks.json"]),
        KeySource::JwksUrl("https://auth/jwks.json".parse().unwrap())
    );
    assert_eq!(
        source(&["--auth-keys-file", "keys.pem"]),
        KeySource::File("keys.pem".into())
    );
    let settings = parse(&["--keys-refresh-seconds", "7"]).unwrap();
    assert_eq!(settings.keys_refresh(), Duration::from_secs(7));
    assert_eq!(
        (&*settings.token_issuer, &*settings.token_audience),
        ("auth-service", "game-backend")
    );
}

#[test]
fn one_source_at_a_time() {
    let (grpc, url, file) = (
        ["--auth-grpc-url", "http://auth:50051"],
        ["--auth-jwks-url", "http://auth/jwks.json"],
        ["--auth-keys-file", "keys.pem"],
    );
    for args in [[grpc, url].concat(), [url, file].concat(), [file, grpc].concat()] {
        assert_eq!(parse(&args).unwrap_err(), ErrorKind::ArgumentConflict, "{args:?}");
    }
}

#[test]
fn addresses_are_plain_http_urls() {
    for url in [
        "",
        "auth:50051",
        "ftp://auth",
        "http://",
        "http://user@auth:1",
        "http://:pass@auth:1",
        "http://auth:1/path",
        "http://auth:1?q",
    ] {
        assert_eq!(
            parse(&["--auth-grpc-url", url]).unwrap_err(),
            ErrorKind::ValueValidation,
            "{url}"
        );
    }
    for url in ["", "jwks.json", "file:///jwks.json", "https://user:pass@auth/jwks.json"] {
        assert_eq!(
            parse(&["--auth-jwks-url", url]).unwrap_err(),
            ErrorKind::ValueValidation,
            "{url}"
        );
    }
    for seconds in ["0", "-1", "86401", "1.5", ""] {
        let argument = format!("--keys-refresh-seconds={seconds}");
        assert!(parse(&[&argument]).is_err(), "{seconds}");
    }
}
