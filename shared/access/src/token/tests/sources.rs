use std::{fs, net::SocketAddr};

use axum::{Router, http::StatusCode, response::Redirect, routing::get};
use proto::auth::v1::{
    GetJwksRequest, GetJwksResponse, Jwk, ListSigningKeysRequest, ListSigningKeysResponse, RetireSigningKeyRequest,
    RetireSigningKeyResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
    key_service_server::{KeyService, KeyServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::{
    super::{Download, KeyError, KeySet, KeySource, KeySourceError, Reach},
    keys::pem,
};
use crate::testing::tokens::TokenMint;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn nobody_listens() -> SocketAddr {
    listen().await.1
}

async fn http_server() -> SocketAddr {
    let (listener, address) = listen().await;
    let set = serde_json::to_string(&TokenMint::fixed(1).jwks()).unwrap();
    let padded = format!("{set}{}", " ".repeat(64 * 1024));
    let private = set.replace("\"kty\"", "\"d\":\"AA\",\"kty\"");
    let router = Router::new()
        .route("/set", get(async || set))
        .route("/huge", get(async || padded))
        .route("/private", get(async || private))
        .route("/garbage", get(async || "<html>"))
        .route("/moved", get(async || Redirect::temporary("/set")))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR));
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

struct Keys(Result<GetJwksResponse, Status>);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        self.0.clone().map(Response::new)
    }

    async fn list_signing_keys(
        &self,
        _: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn rotate_signing_key(
        &self,
        _: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn retire_signing_key(
        &self,
        _: Request<RetireSigningKeyRequest>,
    ) -> Result<Response<RetireSigningKeyResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

async fn auth_service(answer: Result<GetJwksResponse, Status>) -> KeySource {
    let (listener, address) = listen().await;
    let server = tonic::transport::Server::builder().add_service(KeyServiceServer::new(Keys(answer)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    KeySource::AuthService {
        endpoint: format!("http://{address}").parse().unwrap(),
    }
}

fn unusable(error: &KeySourceError) -> Option<&KeyError> {
    match error {
        KeySourceError::Unusable { error, .. } => Some(error),
        _ => None,
    }
}

#[tokio::test]
async fn keys_are_loaded_from_a_url() {
    let address = http_server().await;
    let source = |path: &str| KeySource::JwksUrl(format!("http://{address}{path}").parse().unwrap());
    assert_eq!(source("/set").load().await.unwrap(), TokenMint::fixed(1).jwks());
    for (path, error) in [
        ("/huge", KeyError::TooLarge),
        ("/private", KeyError::PrivateKey),
        ("/garbage", KeyError::NotKeys),
    ] {
        assert_eq!(
            unusable(&source(path).load().await.unwrap_err()),
            Some(&error),
            "{path}"
        );
    }
    for path in ["/moved", "/broken", "/nowhere"] {
        let error = source(path).load().await.unwrap_err();
        assert!(matches!(error, KeySourceError::Unreachable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_download_from_the_internet_connects_to_no_other_address() {
    let port = http_server().await.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "127.1"] {
        let url = format!("http://{host}:{port}/set").parse().unwrap();
        let download = |reach| Download {
            url: &url,
            accept: "application/json",
            max_len: 64 * 1024,
            reach,
        };
        let error = download(Reach::PublicInternet).get().await.unwrap_err().to_string();
        assert!(error.contains("not on the public internet"), "{host}: {error}");
        if !host.starts_with('[') {
            download(Reach::Anywhere).get().await.unwrap();
        }
    }
}

#[tokio::test]
async fn keys_are_loaded_from_auth_service() {
    let set = TokenMint::fixed(1).jwks();
    assert_eq!(auth_service(Ok((&set).into())).await.load().await.unwrap(), set);

    let error = auth_service(Ok(GetJwksResponse::default()))
        .await
        .load()
        .await
        .unwrap_err();
    assert_eq!(unusable(&error), Some(&KeyError::Empty));
    for answer in [
        Err(Status::unavailable("not yet")),
        Ok(GetJwksResponse {
            keys: vec![Jwk {
                x: "x".repeat(64 * 1024),
                ..Jwk::default()
            }],
        }),
    ] {
        let error = auth_service(answer).await.load().await.unwrap_err();
        assert!(matches!(error, KeySourceError::Unreachable { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_error_names_the_address_and_no_secret() {
    let address = nobody_listens().await;
    for source in [
        KeySource::JwksUrl(
            format!("http://user:hunter2@{address}/set?key=hunter2")
                .parse()
                .unwrap(),
        ),
        KeySource::AuthService {
            endpoint: format!("http://user:hunter2@{address}").parse().unwrap(),
        },
    ] {
        let text = source.load().await.unwrap_err().to_string();
        assert!(
            text.contains(&address.to_string()) && text.contains("refused"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn keys_are_loaded_from_a_pem_or_jwks_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let source = KeySource::File(path.clone());
    let mint = TokenMint::fixed(1);
    let set = serde_json::to_string(&mint.jwks()).unwrap();
    for content in [pem(mint.jwk().public_key()).0, set.clone(), format!("\n {set}\n")] {
        fs::write(&path, content).unwrap();
        let keys = KeySet::empty();
        source.prepare(&keys).await.unwrap();
        assert!(!keys.is_empty());
        assert_eq!(source.load().await.unwrap(), mint.jwks());
    }
    let private = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (content, error) in [
        (private.serialize_pem().into_bytes(), KeyError::PrivateKey),
        (private.serialize_der(), KeyError::NotKeys),
        (
            set.replace("\"kty\"", "\"d\":\"AA\",\"kty\"").into_bytes(),
            KeyError::PrivateKey,
        ),
        (b"garbage".to_vec(), KeyError::NotKeys),
        (b"\xff\xfe".to_vec(), KeyError::NotKeys),
        (Vec::new(), KeyError::NotKeys),
        (vec![b'\n'; 64 * 1024 + 1], KeyError::TooLarge),
    ] {
        fs::write(&path, content).unwrap();
        let keys = KeySet::empty();
        assert_eq!(unusable(&source.prepare(&keys).await.unwrap_err()), Some(&error));
        assert!(keys.is_empty());
    }
    fs::remove_file(&path).unwrap();
    let error = source.prepare(&KeySet::empty()).await.unwrap_err();
    assert!(matches!(error, KeySourceError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("keys"), "{error}");
}

#[tokio::test]
async fn a_network_source_may_be_unavailable_at_the_start() {
    let address = nobody_listens().await;
    let source = KeySource::JwksUrl(format!("http://{address}/").parse().unwrap());
    let keys = KeySet::empty();
    source.prepare(&keys).await.unwrap();
    assert!(keys.is_empty());
}
