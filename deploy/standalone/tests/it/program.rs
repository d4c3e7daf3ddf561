//! The program: what the first start creates, what later starts find, and what prevents a start.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use db::{DatabaseSettings, Db, prelude::*};
use proto::{
    auth::v1::{
        GetMeRequest, IssueServiceTokenRequest, LoginRequest, LoginResponse, RotateServiceAccountSecretRequest,
        account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
        service_account_service_client::ServiceAccountServiceClient,
    },
    game::v1::{
        CreateGameRequest, GetLeaderboardRequest, Mark, Opponent, game_service_client::GameServiceClient,
        leaderboard_service_client::LeaderboardServiceClient,
    },
};
use tempfile::TempDir;
use testing::{
    block_on,
    program::{Ended, Program, Signal, get, serving},
    rpc::{channel, reason, with_token},
    write_secret,
};
use tokio::time::{sleep, timeout};
use tonic::Status;

const STANDALONE: &str = env!("CARGO_BIN_EXE_standalone");

const NEW_PASSWORD: &str = "another long password";

const ANY_PORTS: [&str; 8] = [
    "--auth-listen",
    "127.0.0.1:0",
    "--auth-http-listen",
    "127.0.0.1:0",
    "--game-listen",
    "127.0.0.1:0",
    "--game-http-listen",
    "127.0.0.1:0",
];

/// A temporary folder in which the program creates its data folder.
struct DataFolder {
    parent: TempDir,
}

/// The banner, and the addresses in it.
struct Banner {
    text: String,
    auth_grpc: SocketAddr,
    auth_http: SocketAddr,
    game_grpc: SocketAddr,
    game_http: SocketAddr,
}

impl DataFolder {
    fn new() -> Self {
        Self {
            parent: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn data(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    fn start(&self, more: &[&str]) -> Program {
        let unattended = ["--first-admin-must-change-password", "false"];
        self.start_attended(&[&unattended[..], more].concat())
    }

    /// Starts the program so that the first login of the administrator has to change the password.
    fn start_attended(&self, more: &[&str]) -> Program {
        let data = self.data();
        let own = ["--log-level", "error", "--data-dir", data.to_str().expect("UTF-8")];
        let cheap = ["--hashing-memory-kib", "8", "--hashing-passes", "1"];
        Program::start(STANDALONE, [&own[..], &cheap, &ANY_PORTS, more].concat())
    }

    /// Reads the password of the first administrator from its file.
    fn admin_password(&self) -> String {
        let text = fs::read_to_string(self.data().join("admin-password")).expect("the password");
        text.trim_end().to_owned()
    }

    async fn refused(&self) -> Ended {
        self.start(&[]).ended().await
    }

    /// Creates the data folder by starting the program once and ending it.
    async fn with_data() -> Self {
        let folder = Self::new();
        let program = folder.start(&[]);
        Banner::of(&program).await;
        end(program).await;
        folder
    }

    /// Reads the files in the data folder, but for SQLite's companion files, which come and go.
    /// Leaves out the folder of mails.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.data()).expect("the data folder");
        entries
            .map(|entry| entry.expect("a file"))
            .filter(|entry| entry.file_type().expect("its type").is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().expect("UTF-8");
                (name, fs::read(entry.path()).expect("its content"))
            })
            .filter(|(name, _)| !name.ends_with("-wal") && !name.ends_with("-shm"))
            .collect()
    }

    async fn database(&self, name: &str) -> Db {
        let url = format!("sqlite:{}/{name}.db", self.data().display());
        let settings = DatabaseSettings::new(url.parse().expect("a URL"));
        Db::connect(&settings).await.expect("connect")
    }
}

impl Banner {
    async fn of(program: &Program) -> Self {
        let text = program.printed("Press Ctrl-C to stop.").await;
        let after = |service: &str, label: &str| -> SocketAddr {
            let line = text.lines().find(|line| line.trim_start().starts_with(service));
            let rest = line.and_then(|line| line.split_once(label));
            let word = rest.and_then(|(_, rest)| rest.split_whitespace().next());
            let address = word.and_then(|word| word.parse().ok());
            address.unwrap_or_else(|| panic!("no {label} of {service} in:\n{text}"))
        };
        let banner = Self {
            auth_grpc: after("auth-service", "gRPC "),
            auth_http: after("auth-service", "HTTP http://"),
            game_grpc: after("game-service", "gRPC "),
            game_http: after("game-service", "HTTP http://"),
            text,
        };
        serving(banner.auth_grpc).await;
        serving(banner.game_grpc).await;
        banner
    }

    async fn jwks(&self) -> String {
        let (status, body) = get(self.auth_http, "/.well-known/jwks.json").await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn login(&self, login: &str, password: &str) -> Result<LoginResponse, Status> {
        let request = LoginRequest {
            identifier: login.to_owned(),
            password: password.to_owned(),
            ..LoginRequest::default()
        };
        let mut client = AuthServiceClient::new(channel(self.auth_grpc));
        client.login(request).await.map(tonic::Response::into_inner)
    }

    /// Logs in and replaces the password.
    async fn change_at_login(&self, login: &str, password: &str, new_password: &str) {
        let request = LoginRequest {
            identifier: login.to_owned(),
            password: password.to_owned(),
            new_password: new_password.to_owned(),
            new_password_confirmation: new_password.to_owned(),
            ..LoginRequest::default()
        };
        let mut client = AuthServiceClient::new(channel(self.auth_grpc));
        client.login(request).await.expect("logged in");
    }

    /// Logs in as the first administrator, and returns the user id of that account.
    async fn admin(&self, password: &str) -> String {
        let tokens = self.login("admin", password).await.expect("logged in").tokens;
        let request = with_token(GetMeRequest {}, &tokens.expect("tokens").access_token);
        let mut client = AccountServiceClient::new(channel(self.auth_grpc));
        let me = client.get_me(request).await.expect("the profile").into_inner();
        assert!(me.is_admin, "{me:?}");
        me.user.expect("a user").user_id
    }
}

async fn end(program: Program) -> Ended {
    program.signal(Signal::Interrupt);
    let ended = program.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended
}

/// Waits until the file is gone. Fails after 20 s.
async fn until_gone(path: &Path) {
    let gone = async {
        while path.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), gone)
        .await
        .expect("the file is deleted");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("its metadata").permissions().mode() & 0o777
}

async fn execute(db: &Db, sql: &str) {
    let mut tx = db.begin().await.expect("a transaction");
    let done: db::Result<usize> = query!(tx.conn(), |c| diesel::sql_query(sql).execute(c).await);
    done.expect("executed");
    tx.commit().await.expect("committed");
}

#[test]
fn the_first_start_creates_all_files_and_the_second_reuses_them() {
    block_on(async {
        let folder = DataFolder::new();
        let program = folder.start(&[]);
        let banner = Banner::of(&program).await;
        let data = folder.data().canonicalize().expect("the data folder");
        assert!(banner.text.contains(&data.display().to_string()), "{}", banner.text);
        assert_eq!(mode(&data), 0o700);
        for entry in fs::read_dir(&data).expect("the data folder") {
            let path = entry.expect("a file").path();
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "{}", path.display());
        }
        let names: Vec<String> = folder.files().into_keys().collect();
        for name in ["admin-password", "auth.db", "game.db", "server-secret"] {
            assert!(names.iter().any(|made| made == name), "{name} is not in {names:?}");
        }
        for http in [banner.auth_http, banner.game_http] {
            assert_eq!(get(http, "/readyz").await.0, 200);
        }
        let password = folder.admin_password();
        let told = banner.text.contains("First administrator: login admin, password in ");
        assert!(told && !banner.text.contains(&password), "no terminal: {}", banner.text);
        assert!(banner.text.contains("Try it with grpcurl"), "{}", banner.text);
        let (admin, keys) = (banner.admin(&password).await, banner.jwks().await);
        let refused = banner.login("demo", "demo-password").await;
        refused.expect_err("nobody asked for a demo");
        end(program).await;

        let program = folder.start(&[]);
        let banner = Banner::of(&program).await;
        assert!(!banner.text.contains("administrator"), "{}", banner.text);
        assert!(!banner.text.contains("Try it"), "only the first start: {}", banner.text);
        assert_eq!(banner.admin(&password).await, admin);
        assert_eq!(banner.jwks().await, keys);
        end(program).await;
    });
}

#[test]
fn a_given_password_is_used_for_the_first_administrator() {
    block_on(async {
        let folder = DataFolder::new();
        let program = folder.start(&["--bootstrap-admin-password", NEW_PASSWORD]);
        let banner = Banner::of(&program).await;
        assert!(!banner.text.contains("administrator"), "{}", banner.text);
        assert!(!folder.data().join("admin-password").exists());
        banner.admin(NEW_PASSWORD).await;
        end(program).await;
    });
}

#[test]
fn the_password_file_is_deleted_once_the_password_is_changed() {
    block_on(async {
        let folder = DataFolder::new();
        let program = folder.start_attended(&[]);
        let banner = Banner::of(&program).await;
        assert!(banner.text.contains("new_password"), "{}", banner.text);
        let password = folder.admin_password();
        let refused = banner
            .login("admin", &password)
            .await
            .expect_err("a temporary password");
        assert_eq!(reason(&refused), "PASSWORD_CHANGE_REQUIRED");
        banner.change_at_login("admin", &password, NEW_PASSWORD).await;
        until_gone(&folder.data().join("admin-password")).await;
        banner.admin(NEW_PASSWORD).await;
        end(program).await;

        let program = folder.start_attended(&[]);
        Banner::of(&program).await.admin(NEW_PASSWORD).await;
        end(program).await;
    });
}

#[test]
fn an_outdated_password_file_is_deleted_at_the_next_start() {
    block_on(async {
        let folder = DataFolder::new();
        let program = folder.start(&["--demo"]);
        let banner = Banner::of(&program).await;
        let password = folder.admin_password();
        banner.admin(&password).await;
        end(program).await;

        let program = folder.start(&[]);
        Banner::of(&program).await.admin(&password).await;
        end(program).await;
        assert_eq!(folder.admin_password(), password, "it is still good");

        let change = "UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE login = 'demo') \
                      WHERE login = 'admin'";
        execute(&folder.database("auth").await, change).await;
        let program = folder.start(&[]);
        Banner::of(&program).await.admin("demo-password").await;
        until_gone(&folder.data().join("admin-password")).await;
        end(program).await;
    });
}

#[test]
fn secret_files_that_others_can_read_or_that_are_links_are_refused() {
    block_on(async {
        let folder = DataFolder::with_data().await;
        let file = folder.data().join("server-secret");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
        let ended = folder.refused().await;
        let line = ended.only_line(1);
        assert!(
            line.contains("chmod g-w,o-rwx ") && line.contains("server-secret"),
            "{line}"
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
        let aside = folder.parent.path().join("aside");
        fs::rename(&file, &aside).expect("take it away");
        std::os::unix::fs::symlink(&aside, &file).expect("a link");
        let ended = folder.refused().await;
        let line = ended.only_line(1);
        assert!(line.contains("it is a link"), "{line}");
    });
}

#[test]
fn games_go_on_when_the_secret_of_game_service_is_rotated() {
    block_on(async {
        let folder = DataFolder::new();
        let program = folder.start(&[]);
        let banner = Banner::of(&program).await;
        let login = banner
            .login("admin", &folder.admin_password())
            .await
            .expect("logged in");
        let token = login.tokens.expect("tokens").access_token;
        let mut accounts = ServiceAccountServiceClient::new(channel(banner.auth_grpc));
        let rotate = RotateServiceAccountSecretRequest {
            client_id: "game-service".to_owned(),
            // No overlap: the current secret and its tokens become invalid at once.
            overlap_seconds: 0,
        };
        let rotated = accounts.rotate_service_account_secret(with_token(rotate, &token)).await;
        let secret = rotated.expect("rotated").into_inner().client_secret;
        let issue = || IssueServiceTokenRequest {
            client_id: "game-service".to_owned(),
            client_secret: secret.clone(),
            ..IssueServiceTokenRequest::default()
        };
        let put_back = async {
            let mut auth = AuthServiceClient::new(channel(banner.auth_grpc));
            while auth.issue_service_token(issue()).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), put_back)
            .await
            .expect("the secret of this start is put back");
        let mut games = GameServiceClient::new(channel(banner.game_grpc));
        let create = || CreateGameRequest {
            opponent: Opponent::Computer.into(),
            mark: Mark::X.into(),
            ..CreateGameRequest::default()
        };
        // Games cannot be created until game-service hears the feed again.
        let created = async {
            while let Err(status) = games.create_game(with_token(create(), &token)).await {
                assert_eq!(reason(&status), "ACCESS_FEED_SILENT", "{status}");
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(20), created).await.expect("a game");
        end(program).await;
    });
}

#[test]
fn the_demo_data_is_added_once() {
    block_on(async {
        let folder = DataFolder::new();
        let mut leaderboards = Vec::new();
        for words in ["Demo: added 4 players", "there already"] {
            let program = folder.start(&["--demo"]);
            let banner = Banner::of(&program).await;
            assert!(banner.text.contains(words), "{}", banner.text);
            assert!(
                banner.text.contains("Log in as demo with the password demo-password"),
                "{}",
                banner.text
            );
            let tokens = banner.login("demo", "demo-password").await.expect("logged in").tokens;
            let token = tokens.expect("tokens").access_token;
            let mut client = LeaderboardServiceClient::new(channel(banner.game_grpc));
            let request = with_token(GetLeaderboardRequest::default(), &token);
            let leaderboard = client.get_leaderboard(request).await.expect("the leaderboard");
            leaderboards.push(leaderboard.into_inner().entries);
            end(program).await;
        }
        assert_eq!(leaderboards[0].len(), 4);
        assert_eq!(leaderboards[0], leaderboards[1]);
    });
}

#[test]
fn a_port_in_use_is_reported_before_anything_is_created() {
    block_on(async {
        let folder = DataFolder::new();
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address").to_string();
        let data = folder.data();
        for setting in [
            "--auth-listen",
            "--auth-http-listen",
            "--game-listen",
            "--game-http-listen",
        ] {
            let mut ports = ANY_PORTS;
            let at = ports
                .iter()
                .position(|argument| *argument == setting)
                .expect("it is there");
            ports[at + 1] = &address;
            let own = ["--log-level", "error", "--data-dir", data.to_str().expect("UTF-8")];
            let ended = Program::start(STANDALONE, [&own[..], &ports].concat()).ended().await;
            let expected = format!("cannot listen on {address} ({setting}): Address already in use");
            let line = ended.only_line(1);
            assert!(line.starts_with(&expected), "{line}");
        }
        assert!(!data.exists());
    });
}

#[test]
fn an_unusable_data_folder_is_reported() {
    block_on(async {
        let folder = DataFolder::new();
        fs::write(folder.data(), "a file").expect("write a file");
        let ended = folder.refused().await;
        let line = ended.only_line(1);
        assert!(
            line.starts_with("cannot use the data folder") && line.contains("(--data-dir)"),
            "{line}"
        );
        assert_eq!(fs::read_to_string(folder.data()).expect("the file"), "a file");
    });
}

#[test]
fn a_data_folder_serves_only_one_process() {
    block_on(async {
        let folder = DataFolder::new();
        let program = folder.start(&[]);
        let banner = Banner::of(&program).await;
        let files = folder.files();
        let ended = folder.refused().await;
        let line = ended.only_line(1);
        assert!(line.ends_with("(--data-dir) is in use by another process"), "{line}");
        assert_eq!(folder.files(), files);
        banner.admin(&folder.admin_password()).await;
        end(program).await;
    });
}

#[test]
fn databases_of_a_newer_version_are_refused_unchanged() {
    block_on(async {
        for name in ["auth", "game"] {
            let folder = DataFolder::with_data().await;
            let later = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";
            execute(&folder.database(name).await, later).await;
            let files = folder.files();
            let ended = folder.refused().await;
            let line = ended.only_line(1);
            assert!(
                line.contains("the database was made by a newer version of this program"),
                "{line}"
            );
            assert_eq!(folder.files(), files);
            let earlier = "DELETE FROM __diesel_schema_migrations WHERE version = '29990101000000'";
            execute(&folder.database(name).await, earlier).await;
            let program = folder.start(&[]);
            Banner::of(&program).await.admin(&folder.admin_password()).await;
        }
    });
}

#[test]
fn a_lost_server_secret_is_not_replaced() {
    block_on(async {
        let folder = DataFolder::with_data().await;
        let secret = folder.data().join("server-secret");
        let aside = folder.parent.path().join("aside");
        fs::rename(&secret, &aside).expect("take it away");
        let files = folder.files();
        let ended = folder.refused().await;
        let line = ended.only_line(1);
        assert!(line.ends_with("server-secret is missing; put it back"), "{line}");
        assert_eq!(folder.files(), files);

        write_secret(&secret, "c2hvcnQ=");
        let ended = folder.refused().await;
        let line = ended.only_line(1);
        assert!(
            line.contains("server-secret: a server secret is one line") && !line.contains("c2hvcnQ="),
            "{line}"
        );

        fs::copy(&aside, &secret).expect("put it back");
        let program = folder.start(&[]);
        Banner::of(&program).await.admin(&folder.admin_password()).await;
    });
}

#[test]
fn bad_settings_exit_with_64() {
    block_on(async {
        let folder = DataFolder::new();
        for arguments in [
            &["--nothing"][..],
            &["--auth-listen", "nowhere"],
            &["--leaderboard-min-games", "0"],
            &["--demo", "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"],
        ] {
            let data = folder.data();
            let own = ["--data-dir", data.to_str().expect("UTF-8")];
            Program::start(STANDALONE, [&own[..], arguments].concat())
                .ended()
                .await
                .bad_setting();
        }
        assert!(!folder.data().exists());
        Program::start(STANDALONE, ["--help"])
            .ended()
            .await
            .documents_every_option();
    });
}
