//! The server around the RPCs: overload, TLS, and database outages.

use std::{net::SocketAddr, time::Duration};

use access::token::KeySource;
use auth_service::{AuthService, ServerSecrets};
use base::{clock::Clock, running::Running};
use db::{DatabaseSettings, Db};
use proto::auth::v1::{ChangePasswordRequest, GetJwksRequest, GetMeRequest, key_service_client::KeyServiceClient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use server::ServerSettings;
use testing::{
    TestDatabase, block_on, contract, on_both_backends,
    postgres::Cluster,
    rpc::{RawConnection, channel, frame, listener, reason, with_token},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{START, Server, refuse_one_of_two_calls, registration, settings, spawn};

#[on_both_backends]
async fn calls_over_the_limit_are_refused_but_health_is_served(database: TestDatabase) {
    let slow = settings(&[
        "--hashing-workers",
        "1",
        "--hashing-memory-kib",
        "262144",
        "--hashing-passes",
        "8",
    ]);
    let one = ServerSettings {
        max_concurrent_requests: 1,
        ..ServerSettings::default()
    };
    let server = Server::start_limited(database, &slow, &one).await;
    contract::serving(server.grpc).await;
    let (overloaded, hashing) = server.refuse_one_of_two_logins().await;
    assert_eq!(
        (overloaded.code(), reason(&overloaded).as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    assert!(overloaded.get_details_retry_info().is_some());
    contract::serving(server.grpc).await;
    assert_eq!(reason(&hashing.await.expect("joined")), "CREDENTIALS_INVALID");
    server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect("there is room again");
}

#[on_both_backends]
async fn concurrent_calls_are_limited_per_user(database: TestDatabase) {
    let slow = settings(&[
        "--hashing-workers",
        "1",
        "--hashing-memory-kib",
        "131072",
        "--hashing-passes",
        "2",
    ]);
    let one = ServerSettings {
        max_concurrent_requests_per_user: 1,
        ..ServerSettings::default()
    };
    let server = Server::start_limited(database, &slow, &one).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let others = server.register("bob").await.tokens.expect("tokens");
    let me = async |token: &str| server.account().get_me(with_token(GetMeRequest {}, token)).await;
    let (refused, hashing) = refuse_one_of_two_calls(|| {
        let (mut account, token) = (server.account(), tokens.access_token.clone());
        let change = ChangePasswordRequest {
            current_password: "not hers".to_owned(),
            new_password: "correct horse battery".to_owned(),
            new_password_confirmation: "correct horse battery".to_owned(),
        };
        async move {
            account
                .change_password(with_token(change, &token))
                .await
                .expect_err("not her password")
        }
    })
    .await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_CONCURRENT_CALLS")
    );
    assert!(refused.get_details_retry_info().is_some());
    let second = me(&tokens.access_token).await.expect_err("a second call of hers");
    assert_eq!(reason(&second), "TOO_MANY_CONCURRENT_CALLS");
    me(&others.access_token).await.expect("another user is served");
    assert_eq!(reason(&hashing.await.expect("joined")), "CURRENT_PASSWORD_WRONG");
    me(&tokens.access_token).await.expect("there is room again");
}

#[on_both_backends]
async fn calls_without_a_message_do_not_count_as_concurrent(database: TestDatabase) {
    let one = ServerSettings {
        max_concurrent_requests: 1,
        ..ServerSettings::default()
    };
    let server = Server::start_limited(database, &settings(&[]), &one).await;
    let connection = RawConnection::open(server.grpc).await;
    let mut left_open = Vec::new();
    for _ in 0..100 {
        left_open.push(connection.leave_open("/auth.v1.AuthService/Login").await);
    }
    // This call uses the same connection, so the server has received the headers of the open calls
    // before it.
    let answer = connection
        .call("/auth.v1.KeyService/GetJwks", &[], frame(&[]))
        .await
        .expect("an answer");
    assert_eq!(answer.status.code(), Code::Ok, "{}", answer.status);
}

#[on_both_backends]
async fn calls_in_flight_are_answered_before_the_server_stops(database: TestDatabase) {
    let slow = [
        "--hashing-workers",
        "1",
        "--hashing-queue",
        "0",
        "--hashing-memory-kib",
        "262144",
        "--hashing-passes",
        "4",
    ];
    let server = Server::start_with(database, &settings(&slow)).await;
    let (_, hashing) = server.refuse_one_of_two_logins().await;
    server.running.stop().await.expect("ended");
    let answer = hashing.await.expect("joined");
    assert_eq!(reason(&answer), "CREDENTIALS_INVALID", "{answer}");
}

#[on_both_backends]
async fn with_a_certificate_only_tls_is_served(database: TestDatabase) {
    let pki = Pki::new();
    let server = Server::start_limited(database, &settings(&[]), &pki.server(false)).await;
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pki.authority.pem()));
    let mut keys = KeyServiceClient::new(tls_channel(server.grpc, trusting));
    keys.get_jwks(GetJwksRequest {}).await.expect("served over TLS");
    let plain = server
        .keys()
        .get_jwks(GetJwksRequest {})
        .await
        .expect_err("no plain text");
    assert_ne!(plain.code(), Code::Ok);
    let stranger = Pki::new().authority.pem();
    let other = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(stranger));
    let mut keys = KeyServiceClient::new(tls_channel(server.grpc, other));
    keys.get_jwks(GetJwksRequest {})
        .await
        .expect_err("an authority that did not sign it");
}

#[on_both_backends]
async fn with_a_client_ca_clients_need_a_certificate(database: TestDatabase) {
    let pki = Pki::new();
    let server = Server::start_limited(database, &settings(&[]), &pki.server(true)).await;
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pki.authority.pem()));
    let mut anonymous = KeyServiceClient::new(tls_channel(server.grpc, trusting()));
    anonymous.get_jwks(GetJwksRequest {}).await.expect_err("no certificate");
    let (certificate, key) = pki.issue();
    let known = trusting().identity(Identity::from_pem(certificate, key));
    let mut keys = KeyServiceClient::new(tls_channel(server.grpc, known));
    keys.get_jwks(GetJwksRequest {}).await.expect("a client of ours");
}

#[test]
fn a_database_outage_is_reported_and_recovered_from() {
    block_on(async {
        let cluster = Cluster::start(None);
        let url = cluster.url("postgres").parse().expect("a URL");
        let limits = DatabaseSettings {
            max_connections: 4,
            acquire_timeout: Duration::from_secs(1),
            ..DatabaseSettings::new(url)
        };
        let db = Db::connect(&limits).await.expect("a pool");
        let secret = secrecy::ExposeSecret::expose_secret(&ServerSecrets::generate()).to_owned();
        let clock = Clock::manual(START).0;
        let (_running, grpc, http) = spawn(&settings(&[]), &ServerSettings::default(), db, &secret, clock).await;
        let mut auth = proto::auth::v1::auth_service_client::AuthServiceClient::new(channel(grpc));
        let mut account = proto::auth::v1::account_service_client::AccountServiceClient::new(channel(grpc));
        let tokens = auth
            .register(registration("ann"))
            .await
            .expect("registered")
            .into_inner()
            .tokens
            .expect("tokens");
        let mut me = async || account.get_me(with_token(GetMeRequest {}, &tokens.access_token)).await;
        me().await.expect("me");

        let mut health = HealthClient::new(channel(grpc));
        let mut changes = health
            .watch(HealthCheckRequest::default())
            .await
            .expect("health")
            .into_inner();
        let mut becomes = async |wanted: ServingStatus| {
            while let Some(change) = changes.message().await.expect("health") {
                if change.status() == wanted {
                    return;
                }
            }
            panic!("health ended");
        };
        becomes(ServingStatus::Serving).await;
        cluster.stop();
        becomes(ServingStatus::NotServing).await;
        let down = me().await.expect_err("the database is down");
        assert_eq!(
            (down.code(), reason(&down).as_str()),
            (Code::Unavailable, "DATABASE_UNAVAILABLE")
        );
        assert!(down.get_details_retry_info().is_some());
        // The keys are in memory, so tokens are still verified.
        let mut keys = KeyServiceClient::new(channel(grpc));
        keys.get_jwks(GetJwksRequest {}).await.expect("keys");
        let forged = account_refusal(grpc).await;
        assert_eq!(forged, "TOKEN_INVALID");
        assert!(http.port() > 0);
        cluster.start_again();
        becomes(ServingStatus::Serving).await;
        me().await.expect("me again");
    });
}

#[test]
fn a_service_started_before_its_database_reports_starting() {
    block_on(async {
        let cluster = Cluster::start(None);
        let url = cluster.url("postgres").parse().expect("a URL");
        cluster.stop();
        let db = Db::connect(&DatabaseSettings::new(url)).await.expect("a pool");
        let (grpc, http) = (listener().await, listener().await);
        let (address, http_address) = (grpc.address(), http.address());
        let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
        let start = tokio::spawn({
            let running = running.clone();
            async move {
                let (settings, server) = (settings(&[]), ServerSettings::default());
                let secrets = secrecy::ExposeSecret::expose_secret(&ServerSecrets::generate()).parse();
                let clock = Clock::manual(START).0;
                let secrets = secrets.expect("a secret");
                let service = AuthService {
                    settings: &settings,
                    server: &server,
                    db,
                    secrets,
                    service_accounts: Vec::new(),
                    clock,
                    grpc,
                    http,
                };
                service.spawn(true, &running).await.map(|_| ())
            }
        });
        let mut health = HealthClient::new(channel(address));
        let status = health
            .check(HealthCheckRequest::default())
            .await
            .expect("health")
            .into_inner();
        assert_eq!(status.status(), ServingStatus::NotServing);
        let starting = KeyServiceClient::new(channel(address))
            .get_jwks(GetJwksRequest {})
            .await
            .expect_err("starting");
        assert_eq!(
            (starting.code(), reason(&starting).as_str()),
            (Code::Unavailable, "STARTING")
        );
        assert!(starting.get_details_retry_info().is_some());
        let url = format!("http://{http_address}/.well-known/jwks.json")
            .parse()
            .expect("a URL");
        KeySource::JwksUrl(url).load().await.expect_err("starting");

        cluster.start_again();
        contract::serving(address).await;
        start.await.expect("joined").expect("started");
        KeyServiceClient::new(channel(address))
            .get_jwks(GetJwksRequest {})
            .await
            .expect("keys");
        running.stop().await.expect("ended");
    });
}

#[test]
fn a_service_that_waits_for_its_database_can_be_stopped() {
    block_on(async {
        let nobody = listener().await.address();
        let url = format!("postgres://nobody@{nobody}/nothing").parse().expect("a URL");
        let db = Db::connect(&DatabaseSettings::new(url)).await.expect("a pool");
        let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
        running.stop_token().cancel();
        let (settings, server) = (settings(&[]), ServerSettings::default());
        let secrets = secrecy::ExposeSecret::expose_secret(&ServerSecrets::generate())
            .parse()
            .expect("a secret");
        let (grpc, http) = (listener().await, listener().await);
        let clock = Clock::manual(START).0;
        let service = AuthService {
            settings: &settings,
            server: &server,
            db,
            secrets,
            service_accounts: Vec::new(),
            clock,
            grpc,
            http,
        };
        service.spawn(true, &running).await.expect("it just ends");
        running.stop().await.expect("ended");
    });
}

async fn account_refusal(grpc: SocketAddr) -> String {
    let mut account = proto::auth::v1::account_service_client::AccountServiceClient::new(channel(grpc));
    reason(
        &account
            .get_me(with_token(GetMeRequest {}, "x.y.z"))
            .await
            .expect_err("forged"),
    )
}

/// A certificate authority, and a folder for certificate files.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        Self {
            authority,
            directory: tempfile::tempdir().expect("a folder"),
        }
    }

    /// Issues a certificate for localhost. Returns the certificate and its key in PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self, mutual: bool) -> ServerSettings {
        let file = |name: &str, text: &str| {
            let path = self.directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            Some(path)
        };
        let (certificate, key) = self.issue();
        ServerSettings {
            tls_cert_file: file("cert.pem", &certificate),
            tls_key_file: file("key.pem", &key),
            tls_client_ca_file: mutual.then(|| file("ca.pem", &self.authority.pem())).flatten(),
            ..ServerSettings::default()
        }
    }
}

fn tls_channel(address: SocketAddr, tls: ClientTlsConfig) -> Channel {
    let endpoint = Channel::from_shared(format!("https://localhost:{}", address.port())).expect("a URI");
    endpoint.tls_config(tls).expect("TLS settings").connect_lazy()
}
