//! The services as their operators run them: separate processes with a database each.

mod game;
mod users;

use std::{
    ffi::OsStr,
    fs, iter,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use indicatif::{ProgressBar, ProgressStyle};
use proto::{
    auth::v1::{
        LoginRequest, auth_service_client::AuthServiceClient, rbac_service_client::RbacServiceClient,
        user_service_client::UserServiceClient,
    },
    game::v1::leaderboard_service_client::LeaderboardServiceClient,
};
use tempfile::TempDir;
use testing::{
    program::{Program, serving},
    rpc::channel,
    write_secret,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::transport::Channel;
use uuid::Uuid;

pub(crate) use self::{game::Game, users::User};
use crate::{
    engine::{Database, Engine},
    load::Processors,
    process::Processes,
};

pub(crate) const PASSWORD: &str = "a long enough password";

/// Password of the administrator, once the first one was changed.
const ADMIN_PASSWORD: &str = "another long password";

/// Name of the file with the server secret of auth-service.
const SERVER_SECRET: &str = "server-secret";

/// Argon2 parameters that cost next to nothing, for scenarios that are not about passwords.
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

/// Both services, which end when this value is dropped. game-service follows the access feed of
/// auth-service.
pub(crate) struct Deployment {
    auth: Program,
    game: Verifier,
    game_database: Database,
    folder: TempDir,
    client_secret_file: String,
    /// Command line of auth-service.
    auth_arguments: Vec<String>,
    pub(crate) auth_database: Database,
    pub(crate) auth_address: SocketAddr,
    pub(crate) auth_http_address: SocketAddr,
    pub(crate) auth_channel: Channel,
    /// The secret of the service account `game-service`.
    pub(crate) client_secret: String,
    /// The access token of a superuser.
    pub(crate) admin: String,
}

/// Folder of the programs.
static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Builds the services in release mode, into the folder of this program.
pub(crate) fn build(own: &Path) {
    let folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    let _ = PROGRAMS.set(folder);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet"]);
    for package in ["auth-service", "game-service", "standalone"] {
        cargo.args(["--package", package]);
    }
    let built = cargo.status().expect("run cargo");
    assert!(built.success(), "the services cannot be built");
}

impl Deployment {
    pub(crate) async fn start(engine: &Engine, auth_arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let auth_database = engine.database(folder.path()).await;
        let game_database = engine.database(folder.path()).await;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            write_secret(&path, text);
            path.to_str().expect("UTF-8").to_owned()
        };
        let server_secret = write(SERVER_SECRET, &BASE64_STANDARD.encode(random()));
        let client_secret = BASE64_STANDARD.encode(random());
        let accounts = serde_json::json!([
            { "client_id": "game-service", "secret": client_secret, "roles": ["service"] }
        ]);
        let accounts = write("service-accounts.json", &accounts.to_string());
        let client_secret_file = write("client-secret", &client_secret);
        let admin_password = write("admin-password", PASSWORD);

        let [auth_grpc, auth_http] = [(); 2].map(|()| free_address());
        let own = [
            "serve",
            "--auth-listen",
            &auth_grpc.to_string(),
            "--auth-http-listen",
            &auth_http.to_string(),
            "--database-url",
            &auth_database.url,
            "--auth-secret-file",
            &server_secret,
            "--service-accounts-file",
            &accounts,
            "--bootstrap-admin-password-file",
            &admin_password,
            "--log-level",
            "warn",
        ];
        let auth_arguments = own.iter().chain(auth_arguments).map(|argument| (*argument).to_owned());
        let auth_arguments: Vec<String> = auth_arguments.collect();
        let auth = start_apart("auth-service", &auth_arguments);
        started(auth_grpc).await;
        let game = start_game(&game_database.url, auth_grpc, &client_secret_file).await;

        let auth_channel = channel(auth_grpc);
        let login = LoginRequest {
            identifier: "admin".to_owned(),
            password: PASSWORD.to_owned(),
            new_password: ADMIN_PASSWORD.to_owned(),
            new_password_confirmation: ADMIN_PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        let answer = AuthServiceClient::new(auth_channel.clone()).login(login).await;
        let tokens = answer.expect("the administrator logs in").into_inner().tokens;
        Self {
            auth,
            game,
            game_database,
            folder,
            client_secret_file,
            auth_arguments,
            auth_database,
            auth_address: auth_grpc,
            auth_http_address: auth_http,
            auth_channel,
            client_secret,
            admin: tokens.expect("tokens").access_token,
        }
    }

    /// Stops both services while this work is done, and starts them again on their databases.
    pub(crate) async fn rest_during(self, work: impl Future<Output = ()>) -> Self {
        drop((self.auth, self.game));
        work.await;
        let auth = start_apart("auth-service", &self.auth_arguments);
        started(self.auth_address).await;
        let game = start_game(&self.game_database.url, self.auth_address, &self.client_secret_file).await;
        let auth_channel = channel(self.auth_address);
        let login = LoginRequest {
            identifier: "admin".to_owned(),
            password: ADMIN_PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        let answer = AuthServiceClient::new(auth_channel.clone()).login(login).await;
        let tokens = answer.expect("the administrator logs in").into_inner().tokens;
        Self {
            auth,
            game,
            auth_channel,
            admin: tokens.expect("tokens").access_token,
            ..self
        }
    }

    /// Returns the server secret of auth-service, as text.
    pub(crate) fn server_secret(&self) -> String {
        fs::read_to_string(self.folder.path().join(SERVER_SECRET)).expect("the secret's file")
    }

    pub(crate) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn rbac(&self) -> RbacServiceClient<Channel> {
        RbacServiceClient::new(self.auth_channel.clone())
    }

    pub(crate) fn leaderboard(&self) -> LeaderboardServiceClient<Channel> {
        self.game.leaderboard()
    }

    /// Starts this many more game-services, each with a database of its own.
    pub(crate) async fn verifiers(&self, engine: &Engine, count: usize) -> Vec<Verifier> {
        let mut verifiers = Vec::new();
        for _ in 0..count {
            let database = engine.database(self.folder.path()).await;
            verifiers.push(start_game(&database.url, self.auth_address, &self.client_secret_file).await);
        }
        verifiers
    }

    /// Returns the address at which game-service serves gRPC.
    pub(crate) const fn game_address(&self) -> SocketAddr {
        self.game.address
    }

    /// Returns the connection to game-service.
    pub(crate) fn game_channel(&self) -> Channel {
        self.game.channel.clone()
    }

    /// Returns the processes of game-service and of its database.
    pub(crate) fn game_processors(&self) -> Processors {
        Processors {
            service: Processes::One(self.game.program.id()),
            database: self.game_database.processes.clone(),
        }
    }

    /// Returns the processes of auth-service and of its database.
    pub(crate) fn auth_processors(&self) -> Processors {
        Processors {
            service: Processes::One(self.auth.id()),
            database: self.auth_database.processes.clone(),
        }
    }
}

/// A game-service that follows the access feed.
pub(crate) struct Verifier {
    program: Program,
    address: SocketAddr,
    channel: Channel,
}

impl Verifier {
    pub(crate) fn leaderboard(&self) -> LeaderboardServiceClient<Channel> {
        LeaderboardServiceClient::new(self.channel.clone())
    }
}

async fn start_game(database_url: &str, auth: SocketAddr, client_secret_file: &str) -> Verifier {
    let auth = format!("http://{auth}");
    let follow = [
        "--auth-grpc-url",
        &auth,
        "--auth-client-id",
        "game-service",
        "--auth-client-secret-file",
        client_secret_file,
    ];
    let (program, grpc) = serve_game(database_url, &follow).await;
    Verifier {
        program,
        address: grpc,
        channel: channel(grpc),
    }
}

/// Starts game-service, waits until it serves and returns it with its gRPC address.
async fn serve_game(database_url: &str, options: &[&str]) -> (Program, SocketAddr) {
    let [grpc, http] = [(); 2].map(|()| free_address());
    let (at, http) = (grpc.to_string(), http.to_string());
    let needed = [
        "serve",
        "--game-listen",
        &at,
        "--game-http-listen",
        &http,
        "--database-url",
        database_url,
    ];
    let needed = needed.iter().chain(&["--log-level", "warn"]);
    let program = start_apart("game-service", needed.chain(options));
    started(grpc).await;
    (program, grpc)
}

/// Starts a program in a session of its own, as a service manager does. If Linux shares processor
/// time out by session (autogroup), the services would otherwise be in one group with their
/// callers.
pub(crate) fn start_apart(name: &str, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Program {
    let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
    Program::start("setsid", iter::once(executable(name).into()).chain(arguments))
}

/// Creates a progress bar of this length, which is hidden if standard error is not a terminal.
pub(crate) fn progress(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("       {msg} [{bar:40}] {human_pos}/{human_len} {eta} left");
    let bar = ProgressBar::new(length).with_message(what);
    bar.with_style(style.expect("a template").progress_chars("=> "))
}

/// Waits until the service at this address serves.
pub(crate) async fn started(grpc: SocketAddr) {
    listening(grpc).await;
    serving(grpc).await;
}

/// Waits until a process listens at this address. Panics after a minute.
pub(crate) async fn listening(address: SocketAddr) {
    listening_within(Duration::from_secs(60), address).await;
}

/// Waits until a process listens at this address. Panics after this time.
pub(crate) async fn listening_within(patience: Duration, address: SocketAddr) {
    let listens = async {
        // Nothing signals this, so it has to be tried.
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let listens = timeout(patience, listens).await;
    listens.expect("nobody has opened the port in time");
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

/// Returns a local address at which no process listens at this moment.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Returns the path of a program in the folder of this one.
pub(crate) fn executable(name: &str) -> String {
    let path: PathBuf = PROGRAMS.get().map_or(Path::new("."), PathBuf::as_path).join(name);
    path.to_str().expect("UTF-8").to_owned()
}
