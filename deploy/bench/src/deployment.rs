//! The two services as their operators run them: separate processes with a database each, the one following the other's feed.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use shared::{
    db::Backend,
    proto::{
        auth::v1::{
            LoginRequest, RegisterRequest, RegisterResponse, account_service_client::AccountServiceClient,
            auth_service_client::AuthServiceClient, rbac_service_client::RbacServiceClient,
            user_service_client::UserServiceClient,
        },
        game::v1::leaderboard_service_client::LeaderboardServiceClient,
    },
    testing::{
        TestDatabase,
        program::{Program, serving},
        rpc::channel,
    },
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::transport::Channel;
use uuid::Uuid;

pub(crate) const PASSWORD: &str = "a long enough password";

/// Argon2 parameters that cost next to nothing, for what is not about passwords.
pub(crate) const CHEAP_HASHING: [&str; 4] = ["--hashing-memory-kib", "8", "--hashing-passes", "1"];

/// Limits that no scenario reaches.
pub(crate) const NO_LIMITS: [&str; 8] = [
    "--login-rate-per-minute",
    "0",
    "--registration-rate-per-minute",
    "0",
    "--login-free-attempts",
    "1000000",
    "--login-address-free-attempts",
    "1000000",
];

/// Both services, which end with it.
pub(crate) struct Deployment {
    auth: Program,
    _game: Program,
    _folder: TempDir,
    _databases: Vec<TestDatabase>,
    pub(crate) auth_channel: Channel,
    pub(crate) game_channel: Channel,
    /// The access token of a superuser.
    pub(crate) admin: String,
}

/// Where the programs are.
static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Builds the services as they are released, into the folder of this program.
pub(crate) fn build(own: &Path) {
    let folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    let _ = PROGRAMS.set(folder);
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "auth-service",
            "--package",
            "game-service",
        ])
        .status()
        .expect("run cargo");
    assert!(built.success(), "the services cannot be built");
}

impl Deployment {
    pub(crate) async fn start(backend: Backend, auth_arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut databases = Vec::new();
        let mut urls = Vec::new();
        for name in ["auth", "game"] {
            urls.push(match backend {
                Backend::Sqlite => format!("sqlite:{}/{name}.db", folder.path().display()),
                Backend::Postgres => {
                    databases.push(TestDatabase::create_empty(backend).await);
                    databases[databases.len() - 1].url().to_owned()
                }
            });
        }
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("write a file");
            path.to_str().expect("UTF-8").to_owned()
        };
        let server_secret = write("server-secret", &BASE64_STANDARD.encode(random()));
        let client_secret = BASE64_STANDARD.encode(random());
        let accounts = serde_json::json!([
            { "client_id": "game-service", "secret": client_secret, "roles": ["service"] }
        ]);
        let accounts = write("service-accounts.json", &accounts.to_string());
        let client_secret = write("client-secret", &client_secret);
        let admin_password = write("admin-password", PASSWORD);

        let [auth_grpc, auth_http, game_grpc, game_http] = [(); 4].map(|()| free_address());
        let own = [
            "serve",
            "--auth-listen",
            &auth_grpc.to_string(),
            "--auth-http-listen",
            &auth_http.to_string(),
            "--database-url",
            &urls[0],
            "--auth-secret-file",
            &server_secret,
            "--service-accounts-file",
            &accounts,
            "--bootstrap-admin-password-file",
            &admin_password,
            "--log-level",
            "warn",
        ];
        let auth = Program::start(&executable("auth-service"), own.iter().chain(auth_arguments));
        started(auth_grpc).await;
        let game = Program::start(
            &executable("game-service"),
            [
                "serve",
                "--game-listen",
                &game_grpc.to_string(),
                "--game-http-listen",
                &game_http.to_string(),
                "--database-url",
                &urls[1],
                "--auth-grpc-url",
                &format!("http://{auth_grpc}"),
                "--auth-client-id",
                "game-service",
                "--auth-client-secret-file",
                &client_secret,
                "--log-level",
                "warn",
            ],
        );
        started(game_grpc).await;

        let auth_channel = channel(auth_grpc);
        let login = LoginRequest {
            identifier: "admin".to_owned(),
            password: PASSWORD.to_owned(),
            new_password: "another long password".to_owned(),
            new_password_confirmation: "another long password".to_owned(),
            ..LoginRequest::default()
        };
        let answer = AuthServiceClient::new(auth_channel.clone()).login(login).await;
        let tokens = answer.expect("the administrator logs in").into_inner().tokens;
        Self {
            auth,
            _game: game,
            _folder: folder,
            _databases: databases,
            auth_channel,
            game_channel: channel(game_grpc),
            admin: tokens.expect("tokens").access_token,
        }
    }

    pub(crate) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn rbac(&self) -> RbacServiceClient<Channel> {
        RbacServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn leaderboard(&self) -> LeaderboardServiceClient<Channel> {
        LeaderboardServiceClient::new(self.game_channel.clone())
    }

    pub(crate) async fn register(&self, login: &str) -> RegisterResponse {
        let request = RegisterRequest {
            email: format!("{login}@example.test"),
            login: login.to_owned(),
            password: PASSWORD.to_owned(),
            password_confirmation: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        self.auth().register(request).await.expect("registered").into_inner()
    }

    /// The most memory that auth-service has had so far, in MiB.
    pub(crate) fn auth_peak_memory(&self) -> f64 {
        memory(self.auth.id(), "VmHWM")
    }

    /// The memory that auth-service has now, in MiB.
    pub(crate) fn auth_memory(&self) -> f64 {
        memory(self.auth.id(), "VmRSS")
    }
}

/// Returns once the service at this address serves.
pub(crate) async fn started(grpc: SocketAddr) {
    let listens = async {
        while TcpStream::connect(grpc).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let listens = timeout(Duration::from_secs(60), listens).await;
    listens.expect("the service has not opened its port within a minute");
    serving(grpc).await;
}

pub(crate) fn memory(process: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux tells");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("a number of KiB") / 1024.0
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

/// An address that nobody listens on at this moment.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// A program in the folder of this one.
pub(crate) fn executable(name: &str) -> String {
    let path: PathBuf = PROGRAMS.get().map_or(Path::new("."), PathBuf::as_path).join(name);
    path.to_str().expect("UTF-8").to_owned()
}
