//! An identity provider on this machine, with keys that it can change and faults that it can have.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use base::clock::Timestamp;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use parking_lot::Mutex;
use proto::auth::v1::{
    IdTokenProof, LoginWithIdTokenRequest, LoginWithIdTokenResponse, StartExternalLoginRequest,
    StartExternalLoginResponse,
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testing::TestDatabase;
use tokio::net::TcpListener;
use tonic::Status;

use super::{Server, settings};

/// Client id of the tests at the provider.
pub(crate) const CLIENT: &str = "page";
/// Name of the provider in requests.
pub(crate) const NAME: &str = "local";

/// A running provider.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Mutex<Vec<SigningKey>>,
    fault: Mutex<Fault>,
    /// Number of requests for the keys so far.
    loads: AtomicUsize,
}

/// A fault of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It answers with an error.
    Down,
    /// It never answers.
    Silent,
    /// Its keys are followed by 100 MB.
    Huge,
    /// It redirects to its keys at another path.
    Moved,
    /// Its discovery document is that of another issuer.
    Impostor,
}

/// A key with which the provider signs.
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pair: Pair,
}

enum Pair {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    pub(crate) fn ed25519(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: Pair::Ed(Ed25519KeyPair::generate().expect("random bytes")),
        }
    }

    pub(crate) fn p256(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("random bytes")),
        }
    }

    pub(crate) fn rsa(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("random bytes"))),
        }
    }

    fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Ed(_) => "EdDSA",
            Pair::Ec(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// Returns the header of a token by this key.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.alg(), "kid": self.kid, "typ": "JWT"})
    }

    /// Returns the public key as a JSON Web Key.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref())}),
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
            }
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e)})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg());
        jwk["use"] = json!("sig");
        jwk
    }

    /// Returns the bytes of the public key, by which a forger might key an HMAC.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// Signs a token with this header and these claims, whatever they say.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs a token with this text as its header, and this one as its claims.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let message = signed.as_bytes();
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Ec(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.expect("signed");
                signature
            }
        };
        format!("{signed}.{}", base64url(&signature))
    }
}

impl Provider {
    /// Starts a provider with one Ed25519 key.
    pub(crate) async fn start() -> Self {
        Self::with_keys(vec![SigningKey::ed25519("first")]).await
    }

    pub(crate) async fn with_keys(keys: Vec<SigningKey>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let provider = Self {
            address: listener.local_addr().expect("an address"),
            shared: Arc::new(Shared {
                keys: Mutex::new(keys),
                fault: Mutex::new(Fault::None),
                loads: AtomicUsize::new(0),
            }),
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys_of))
            .route("/moved", get(async || "{}"))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the entry of this provider in the operator's file. `further` members replace its
    /// own.
    pub(crate) fn entry(&self, further: &Value) -> Value {
        let mut entry = json!({
            "name": NAME,
            "display_name": "Example ID",
            "issuer": self.issuer(),
            "audiences": [CLIENT, "app"],
            "web_client_id": CLIENT,
            "algorithms": ["RS256", "ES256", "EdDSA"],
            "allow_private_addresses": true,
        });
        for (name, value) in further.as_object().expect("an object") {
            entry[name] = value.clone();
        }
        entry
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.shared.fault.lock() = fault;
    }

    /// Replaces the keys.
    pub(crate) fn rotate(&self, keys: Vec<SigningKey>) {
        *self.shared.keys.lock() = keys;
    }

    /// Returns the number of requests for the keys so far.
    pub(crate) fn loads(&self) -> usize {
        self.shared.loads.load(Ordering::SeqCst)
    }

    /// Returns the claims of an ID token for this user, issued now.
    pub(crate) fn claims(&self, subject: &str, provider_nonce: &str, now: Timestamp) -> Value {
        json!({
            "iss": self.issuer(),
            "sub": subject,
            "aud": CLIENT,
            "nonce": provider_nonce,
            "iat": now.as_seconds(),
            "exp": now.as_seconds() + 3600,
        })
    }

    /// Signs with the newest key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let keys = self.shared.keys.lock();
        let key = keys.last().expect("a key");
        key.sign(&key.header(), claims)
    }

    /// Signs these texts with the newest key, whatever they say.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        self.shared.keys.lock().last().expect("a key").sign_text(header, claims)
    }
}

async fn discovery(State(provider): State<Provider>) -> Response {
    let issuer = match fault(&provider).await {
        Ok(Fault::Impostor) => "https://accounts.google.com".to_owned(),
        Ok(_) => provider.issuer(),
        Err(response) => return response,
    };
    let keys = format!("{}/keys", provider.issuer());
    axum::Json(json!({"issuer": issuer, "jwks_uri": keys})).into_response()
}

async fn keys_of(State(provider): State<Provider>) -> Response {
    provider.shared.loads.fetch_add(1, Ordering::SeqCst);
    let fault = match fault(&provider).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    let keys: Vec<Value> = provider.shared.keys.lock().iter().map(SigningKey::jwk).collect();
    let set = json!({ "keys": keys }).to_string();
    match fault {
        Fault::Moved => Redirect::temporary("/moved").into_response(),
        Fault::Huge => {
            // White space after the set. A reader without a limit would take all of it.
            let padding = Bytes::from(vec![b' '; 1 << 20]);
            let chunks = std::iter::once(Bytes::from(set)).chain(std::iter::repeat_n(padding, 100));
            Body::from_stream(tokio_stream::iter(chunks.map(Ok::<_, std::io::Error>))).into_response()
        }
        _ => set.into_response(),
    }
}

/// Returns the present fault, or the answer if it is one of all paths.
async fn fault(provider: &Provider) -> Result<Fault, Response> {
    let fault = *provider.shared.fault.lock();
    match fault {
        Fault::Down => Err(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        Fault::Silent => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Err(StatusCode::OK.into_response())
        }
        fault => Ok(fault),
    }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes the operator's file with these entries.
pub(crate) fn file(entries: &[Value]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(json!(entries).to_string().as_bytes()).expect("written");
    file
}

/// Starts a server with these providers and these further arguments.
pub(crate) async fn server_with(database: TestDatabase, entries: &[Value], further: &[&str]) -> Server {
    // The file is read at the start.
    let file = file(entries);
    let mut arguments = vec!["--identity-providers-file", file.path().to_str().expect("UTF-8")];
    arguments.extend(further);
    Server::start_with(database, &settings(&arguments)).await
}

impl Server {
    /// Begins an external login with this provider.
    pub(crate) async fn start_external(&self, provider: &str) -> StartExternalLoginResponse {
        let request = StartExternalLoginRequest {
            provider: provider.to_owned(),
        };
        let started = self.auth().start_external_login(request).await;
        started.expect("started").into_inner()
    }

    /// Returns a proof by this user of the provider. `further` claims are added to the token.
    pub(crate) async fn proof(&self, provider: &Provider, subject: &str, further: &Value) -> IdTokenProof {
        let started = self.start_external(NAME).await;
        let mut claims = provider.claims(subject, &started.provider_nonce, self.clock.clock().now());
        for (name, value) in further.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        IdTokenProof {
            provider: NAME.to_owned(),
            id_token: provider.sign(&claims),
            nonce: started.nonce,
        }
    }

    /// Logs in with this proof.
    pub(crate) async fn login_external(&self, proof: &IdTokenProof) -> Result<LoginWithIdTokenResponse, Status> {
        let answer = self.auth().login_with_id_token(login_by(proof)).await?;
        Ok(answer.into_inner())
    }
}

/// Returns a request to log in with this proof.
pub(crate) fn login_by(proof: &IdTokenProof) -> LoginWithIdTokenRequest {
    LoginWithIdTokenRequest {
        provider: proof.provider.clone(),
        id_token: proof.id_token.clone(),
        nonce: proof.nonce.clone(),
        ..LoginWithIdTokenRequest::default()
    }
}
