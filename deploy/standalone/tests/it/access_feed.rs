//! auth-service and game-service as two programs. game-service learns of each decision of
//! auth-service, whichever of the two was restarted.

use std::{net::SocketAddr, path::Path, time::Duration};

use auth_service::ServerSecrets;
use db::Backend;
use proto::{
    auth::v1::{
        DeactivateUserRequest, LoginRequest, RegisterRequest, RegisterResponse, auth_service_client::AuthServiceClient,
        user_service_client::UserServiceClient,
    },
    game::v1::{GetLeaderboardRequest, leaderboard_service_client::LeaderboardServiceClient},
};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use testing::{
    TestDatabase, block_on,
    program::{Addresses, Program, Signal, serving},
    rpc::{channel, listener, reason, with_token},
    write_secret,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

pub(crate) const PASSWORD: &str = "correct horse";
const FIRST_PASSWORD: &str = "the first of the administrator";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789a";

/// Databases, secret files and the address of auth-service for both programs.
pub(crate) struct ServiceFiles {
    folder: TempDir,
    pub(crate) auth: SocketAddr,
    databases: [String; 2],
}

impl ServiceFiles {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let databases = ["auth", "game"].map(|name| format!("sqlite:{}/{name}.db", folder.path().display()));
        Self::on(folder, databases).await
    }

    /// Prepares both programs on two empty databases of a PostgreSQL server.
    pub(crate) async fn on_postgres() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let auth = TestDatabase::create_empty(Backend::Postgres).await;
        let game = TestDatabase::create_empty(Backend::Postgres).await;
        Self::on(folder, [auth.url().to_owned(), game.url().to_owned()]).await
    }

    pub(crate) async fn on(folder: TempDir, databases: [String; 2]) -> Self {
        let files = Self {
            folder,
            databases,
            // The port was free when it was chosen. It is fixed, because a restarted auth-service
            // must have the same address.
            auth: listener().await.address(),
        };
        let accounts = format!(r#"[{{"client_id": "game-service", "secret": "{SECRET}"}}]"#);
        let server_secret = ServerSecrets::generate();
        for (name, text) in [
            ("accounts.json", accounts.as_str()),
            ("client-secret", SECRET),
            ("admin-password", FIRST_PASSWORD),
            ("server-secret", server_secret.expose_secret()),
        ] {
            write_secret(files.path(name), text);
        }
        files
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    pub(crate) async fn auth_service(&self) -> Program {
        self.auth_service_at(self.auth, &[]).await
    }

    /// Starts auth-service at this address and in this environment, and waits until it serves.
    pub(crate) async fn auth_service_at(&self, address: SocketAddr, environment: &[(String, String)]) -> Program {
        let arguments = [
            "serve".to_owned(),
            format!("--auth-listen={address}"),
            "--auth-http-listen=127.0.0.1:0".to_owned(),
            format!("--database-url={}", self.databases[0]),
            format!("--auth-secret-file={}", self.path("server-secret")),
            format!("--service-accounts-file={}", self.path("accounts.json")),
            format!("--bootstrap-admin-password-file={}", self.path("admin-password")),
            "--hashing-memory-kib=8".to_owned(),
            "--hashing-passes=1".to_owned(),
            "--registration-rate-per-minute=0".to_owned(),
            "--log-format=json".to_owned(),
        ];
        let program = start("auth-service", arguments.to_vec(), environment);
        program.addresses().await;
        serving(address).await;
        program
    }

    pub(crate) async fn game_service(&self) -> (Program, SocketAddr) {
        let (program, at) = self.game_service_of(self.auth, &[]).await;
        (program, at.grpc)
    }

    /// Starts game-service in this environment. It follows the auth-service at this address.
    pub(crate) async fn game_service_of(
        &self,
        auth: SocketAddr,
        environment: &[(String, String)],
    ) -> (Program, Addresses) {
        let arguments = [
            "serve".to_owned(),
            "--game-listen=127.0.0.1:0".to_owned(),
            "--game-http-listen=127.0.0.1:0".to_owned(),
            format!("--database-url={}", self.databases[1]),
            format!("--auth-grpc-url=http://{auth}"),
            "--auth-client-id=game-service".to_owned(),
            format!("--auth-client-secret-file={}", self.path("client-secret")),
            "--log-format=json".to_owned(),
        ];
        let program = start("game-service", arguments.to_vec(), environment);
        let at = program.addresses().await;
        (program, at)
    }

    async fn register(&self, login: &str) -> Person {
        self.registered(login).await.into()
    }

    pub(crate) async fn registered(&self, login: &str) -> RegisterResponse {
        let request = RegisterRequest {
            email: format!("{login}@example.com"),
            login: login.to_owned(),
            password: PASSWORD.to_owned(),
            password_confirmation: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        let mut client = AuthServiceClient::new(channel(self.auth));
        client.register(request).await.expect("registered").into_inner()
    }

    /// Returns an access token of the administrator. The first login changes the initial password.
    async fn admin(&self) -> String {
        let mut client = AuthServiceClient::new(channel(self.auth));
        let mut login = async |password: &str, new_password: &str| {
            let request = LoginRequest {
                identifier: "admin".to_owned(),
                password: password.to_owned(),
                new_password: new_password.to_owned(),
                new_password_confirmation: new_password.to_owned(),
                ..LoginRequest::default()
            };
            let answer = client.login(request).await.map(|answer| answer.into_inner().tokens);
            answer.map(|tokens| tokens.expect("tokens").access_token)
        };
        match login(PASSWORD, "").await {
            Ok(token) => token,
            Err(_) => login(FIRST_PASSWORD, PASSWORD).await.expect("logged in"),
        }
    }

    async fn deactivate(&self, person: &Person) {
        let request = DeactivateUserRequest {
            user_id: person.id.clone(),
        };
        let token = self.admin().await;
        let mut users = UserServiceClient::new(channel(self.auth));
        users
            .deactivate_user(with_token(request, &token))
            .await
            .expect("deactivated");
    }
}

/// A user, and the access token that the user got at the registration.
struct Person {
    id: String,
    token: String,
}

impl From<RegisterResponse> for Person {
    fn from(response: RegisterResponse) -> Self {
        Self {
            id: response.user.expect("a user").user_id,
            token: response.tokens.expect("tokens").access_token,
        }
    }
}

impl Person {
    async fn reads_at(&self, game: SocketAddr) -> Result<(), Status> {
        let mut client = LeaderboardServiceClient::new(channel(game));
        let request = with_token(GetLeaderboardRequest::default(), &self.token);
        client.get_leaderboard(request).await.map(drop)
    }

    /// Waits until this person is refused, and returns how long it took. Fails after 20 s.
    async fn time_until_refused_at(&self, game: SocketAddr) -> Duration {
        let start = Instant::now();
        let refused = async {
            // No event announces that the change has arrived, so poll for it.
            while self.reads_at(game).await.is_ok() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(20), refused).await.expect("refused");
        self.is_refused_at(game).await;
        start.elapsed()
    }

    async fn is_refused_at(&self, game: SocketAddr) {
        let status = self.reads_at(game).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        let why = reason(&status);
        assert!(why == "TOKEN_REVOKED" || why == "TOKEN_STALE", "{why}");
    }
}

fn start(name: &str, arguments: Vec<String>, environment: &[(String, String)]) -> Program {
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Program::start_in(&executable(name), arguments, &environment)
}

/// Returns the path of another program of the workspace. `cargo test --workspace` builds them all.
pub(crate) fn executable(name: &str) -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_standalone")).with_file_name(name);
    assert!(path.exists(), "{} is not there: build the workspace", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

pub(crate) async fn end(program: Program) {
    program.signal(Signal::Terminate);
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_deactivation_applies_at_once_and_survives_restarts() {
    block_on(async {
        let files = ServiceFiles::new().await;
        let auth = files.auth_service().await;
        let (game, at) = files.game_service().await;
        serving(at).await;

        let (ann, bob) = (files.register("ann").await, files.register("bob").await);
        ann.reads_at(at).await.expect("let in");
        bob.reads_at(at).await.expect("let in");
        files.deactivate(&ann).await;
        let took = ann.time_until_refused_at(at).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        bob.reads_at(at).await.expect("still let in");

        // A new process refuses the user from its first answer on.
        end(game).await;
        let (game, at) = files.game_service().await;
        let first = async {
            loop {
                match ann.reads_at(at).await {
                    Err(status) if status.code() == Code::Unavailable => sleep(Duration::from_millis(2)).await,
                    answer => return answer,
                }
            }
        };
        let first = timeout(Duration::from_secs(20), first).await.expect("an answer");
        assert_eq!(first.expect_err("refused").code(), Code::Unauthenticated);
        ann.is_refused_at(at).await;
        serving(at).await;
        bob.reads_at(at).await.expect("let in");

        // While auth-service is down, game-service goes by what it knows. Once auth-service is
        // back, the feed continues.
        end(auth).await;
        ann.is_refused_at(at).await;
        bob.reads_at(at).await.expect("reads go on");
        let auth = files.auth_service().await;
        files.deactivate(&bob).await;
        bob.time_until_refused_at(at).await;
        ann.is_refused_at(at).await;
        files.register("cleo").await.reads_at(at).await.expect("let in");
        end(game).await;
        end(auth).await;
    });
}
