use std::time::Duration;

use base::StartError;
use clap::{Parser as _, error::ErrorKind};

use super::VerifierSettings;
use crate::token::KeySource;

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
fn only_one_key_source_may_be_set() {
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
fn credentials_must_be_complete_and_need_auth_service_as_the_source() {
    let (id, secret, file) = (
        ["--auth-client-id", "game-service"],
        ["--auth-client-secret", "s3cret"],
        ["--auth-client-secret-file", "secret"],
    );
    let missing = ErrorKind::MissingRequiredArgument;
    for (args, kind) in [
        (id.to_vec(), missing),
        (secret.to_vec(), missing),
        (file.to_vec(), missing),
        ([id, secret, file].concat(), ErrorKind::ArgumentConflict),
        (
            [id, secret, ["--auth-keys-file", "keys.pem"]].concat(),
            ErrorKind::ArgumentConflict,
        ),
        (
            [id, file, ["--auth-jwks-url", "http://auth/"]].concat(),
            ErrorKind::ArgumentConflict,
        ),
    ] {
        assert_eq!(parse(&args).unwrap_err(), kind, "{args:?}");
    }
    let follower = |args: &[&str]| parse(args).unwrap().follower();
    assert!(follower(&[]).unwrap().is_none());
    assert!(follower(&["--auth-grpc-url", "http://auth:1"]).unwrap().is_none());
}

#[tokio::test]
async fn the_client_secret_must_be_readable_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let name = path.to_str().unwrap();
    let args = ["--auth-client-id", "game-service", "--auth-client-secret-file", name];
    let follower = || parse(&args).unwrap().follower();
    let why = |text: &str| {
        let error = follower().unwrap_err();
        assert!(matches!(error, StartError::Setting(_)), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    why("cannot read the secret (--auth-client-secret-file)");
    std::fs::write(&path, " \n").unwrap();
    why("the secret is empty (--auth-client-secret-file)");
    std::fs::write(&path, "s3cret\n").unwrap();
    let follower = follower().unwrap().unwrap();
    assert!(!format!("{follower:?}").contains("s3cret"), "{follower:?}");
    let settings = parse(&["--auth-client-id", "game-service", "--auth-client-secret", "s3cret"]).unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
    assert!(settings.follower().unwrap().is_some());
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
