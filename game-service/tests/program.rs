//! Tests of the program: its sources of keys, its start, its errors for bad settings, its commands
//! and its exit.

use std::{fs, net::SocketAddr, time::Duration};

use base::{clock::Clock, ids::UserId};
use db::{Backend, DatabaseSettings, Db};
use proto::{
    auth::v1::{
        GetJwksRequest, GetJwksResponse, ListSigningKeysRequest, ListSigningKeysResponse, RetireSigningKeyRequest,
        RetireSigningKeyResponse, RotateSigningKeyRequest, RotateSigningKeyResponse,
        key_service_server::{KeyService, KeyServiceServer},
    },
    game::v1::{GetLeaderboardRequest, leaderboard_service_client::LeaderboardServiceClient},
};
use tempfile::TempDir;
use testing::{
    TestDatabase, block_on,
    feed::{CLIENT_ID, CLIENT_SECRET, FakeAuth},
    program::{Addresses, Ended, Program, Signal, get, not_serving, serving},
    rpc::{channel, listener, reason, with_token},
    tokens::TokenMint,
    write_secret,
};
use tokio::net::{TcpListener, TcpSocket};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

const KEYS_ALONE: &str = "the service does not follow the access feed (no --auth-client-id), so logouts, \
                          deactivations and role changes \
                          take effect only when access tokens expire, and roles hold only their default permissions";
const GAME_SERVICE: &str = env!("CARGO_BIN_EXE_game-service");

/// URL of a database that has not been opened yet, and a folder for files.
struct ProgramFiles {
    folder: TempDir,
    url: String,
}

impl ProgramFiles {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}/game.db", folder.path().display());
        Self { folder, url }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        write_secret(&path, text);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Starts `serve` with a log in JSON.
    fn serve(&self, more: &[&str]) -> Program {
        self.serve_logging(&["--log-format", "json"], more)
    }

    /// Runs `serve` with settings that it refuses, and a log of errors only.
    async fn refused(&self, more: &[&str]) -> Ended {
        self.serve_logging(&["--log-level", "error"], more).ended().await
    }

    fn serve_logging(&self, log: &[&str], more: &[&str]) -> Program {
        let arguments = [
            "serve",
            "--game-listen",
            "127.0.0.1:0",
            "--game-http-listen",
            "127.0.0.1:0",
        ];
        let database = ["--database-url", &self.url];
        Program::start(GAME_SERVICE, [&arguments[..], &database, log, more].concat())
    }
}

/// The part of auth-service that a verifier needs: its keys.
struct Keys(GetJwksResponse);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(self.0.clone()))
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

fn serve_keys(listener: TcpListener, mint: &TokenMint) {
    let keys = KeyServiceServer::new(Keys((&mint.jwks()).into()));
    tokio::spawn(
        Server::builder()
            .add_service(keys)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
}

async fn serve_http(body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let router = axum::Router::new().route("/jwks.json", axum::routing::get(async || body));
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

fn jwks_json(mint: &TokenMint) -> String {
    serde_json::to_string(&mint.jwks()).expect("a key set is JSON")
}

/// Waits until the service is ready, and asserts that it accepts tokens of this mint only.
async fn believes(at: Addresses, mint: &TokenMint) {
    serving(at.grpc).await;
    assert_eq!(get(at.http, "/readyz").await.0, 200);
    let claims = mint.claims_for(UserId::generate(), "ann", &["player"], Clock::system().now());
    let call = async |mint: &TokenMint| {
        let request = with_token(GetLeaderboardRequest::default(), &mint.sign(&claims));
        let mut client = LeaderboardServiceClient::new(channel(at.grpc));
        client.get_leaderboard(request).await.map(drop)
    };
    call(mint).await.expect("believed");
    call(&TokenMint::random()).await.expect_err("a foreign key");
}

#[test]
fn it_serves_once_auth_service_has_given_it_the_keys() {
    block_on(async {
        let (files, mint) = (ProgramFiles::new(), TokenMint::random());
        // The bound socket reserves the port, but refuses connections until it listens.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let auth = socket.local_addr().expect("its address");
        let program = files.serve(&["--auth-grpc-url", &format!("http://{auth}")]);
        let at = program.addresses().await;
        program.logged("cannot load the verification keys; trying again").await;
        not_serving(at.grpc).await;
        assert_eq!(get(at.http, "/readyz").await.0, 503);
        assert_eq!(get(at.http, "/livez").await.0, 200);
        serve_keys(socket.listen(64).expect("listening"), &mint);
        believes(at, &mint).await;
        program.signal(Signal::Terminate);
        let ended = program.ended_within(Duration::from_secs(20)).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    });
}

#[test]
fn with_a_service_account_it_follows_the_access_feed() {
    block_on(async {
        let (files, mint) = (ProgramFiles::new(), TokenMint::random());
        let auth = FakeAuth::new();
        auth.set_keys(&mint.jwks());
        auth.set_role("player", &["leaderboard:read"]);
        let listener = listener().await;
        let url = format!("http://{}", listener.address());
        auth.serve(listener);
        let secret = files.write("secret", &format!("{CLIENT_SECRET}\n"));
        let arguments = [
            "--auth-grpc-url",
            &url,
            "--auth-client-id",
            CLIENT_ID,
            "--auth-client-secret-file",
            &secret,
        ];
        let program = files.serve(&arguments);
        program.logged("following the access feed").await;
        let loaded = program.logged("read the leaderboard").await;
        assert!(loaded["players"].is_u64() && loaded["elapsed_ms"].is_u64(), "{loaded}");
        let at = program.addresses().await;
        believes(at, &mint).await;
        let (_, metrics) = get(at.http, "/metrics").await;
        for name in [
            "access_feed_silence_seconds",
            "access_feed_silences_total",
            "access_feed_streams_total",
        ] {
            assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
        }
        assert_eq!(auth.declared().len(), 1);

        let claims = mint.claims_for(UserId::generate(), "ann", &["player"], Clock::system().now());
        auth.revoke_user(claims.sub, 1);
        let mut client = LeaderboardServiceClient::new(channel(at.grpc));
        let refused = async {
            loop {
                let request = with_token(GetLeaderboardRequest::default(), &mint.sign(&claims));
                if let Err(status) = client.get_leaderboard(request).await {
                    return status;
                }
                // Nothing signals when the revocation has arrived.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(10), refused)
            .await
            .expect("refused");
        assert_eq!(reason(&refused), "TOKEN_STALE");
        // The open stream of the feed does not delay the shutdown.
        program.signal(Signal::Terminate);
        let ended = program.ended_within(Duration::from_secs(5)).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    });
}

#[test]
fn a_wrong_secret_is_reported_and_nothing_is_served() {
    block_on(async {
        let files = ProgramFiles::new();
        let auth = FakeAuth::new();
        let listener = listener().await;
        let url = format!("http://{}", listener.address());
        auth.serve(listener);
        let program = files.serve(&[
            "--auth-grpc-url",
            &url,
            "--auth-client-id",
            CLIENT_ID,
            "--auth-client-secret",
            "hunter2",
        ]);
        let line = program
            .logged(
                "cannot follow the access feed: auth-service refuses the credentials; check --auth-client-id and \
                --auth-client-secret-file",
            )
            .await;
        assert!(!line.to_string().contains("hunter2"), "{line}");
        not_serving(program.addresses().await.grpc).await;
        program.signal(Signal::Terminate);
        assert_eq!(program.ended().await.code, Some(0));
    });
}

#[test]
fn it_takes_its_keys_from_a_url_or_a_file() {
    block_on(async {
        let (files, mint) = (ProgramFiles::new(), TokenMint::random());
        let url = format!("http://{}/jwks.json", serve_http(jwks_json(&mint)).await);
        let jwks = files.write("jwks.json", &jwks_json(&mint));
        let pem = files.write("key.pem", &mint.public_pem());
        for source in [
            ["--auth-jwks-url", &url],
            ["--auth-keys-file", &jwks],
            ["--auth-keys-file", &pem],
        ] {
            let program = files.serve(&source);
            program.logged(KEYS_ALONE).await;
            believes(program.addresses().await, &mint).await;
            program.signal(Signal::Terminate);
            assert_eq!(program.ended().await.code, Some(0));
        }
    });
}

#[test]
fn a_bad_key_source_exits_with_64_and_a_clear_message() {
    block_on(async {
        let (files, mint) = (ProgramFiles::new(), TokenMint::random());
        let garbage = files.write("garbage", "hunter2");
        let private_pem = files.write("private.pem", &mint.public_pem().replace("PUBLIC", "PRIVATE"));
        let private_jwk = jwks_json(&mint).replace("\"kty\"", "\"d\":\"hunter2\",\"kty\"");
        let private_jwk = files.write("private.json", &private_jwk);
        for (path, words) in [
            (
                "/nowhere/keys",
                "cannot read the key file /nowhere/keys: No such file or directory",
            ),
            (&garbage, "it is neither a JSON Web Key Set nor PEM"),
            (&private_pem, "it holds a private or secret key"),
            (&private_jwk, "it holds a private or secret key"),
        ] {
            let ended = files.refused(&["--auth-keys-file", path]).await;
            let line = ended.only_line(64);
            assert!(line.contains(words), "{path}: {line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    });
}

#[test]
fn key_sources_that_do_not_go_together_exit_with_64_and_a_clear_message() {
    block_on(async {
        let (files, mint) = (ProgramFiles::new(), TokenMint::random());
        let good = files.write("good.json", &jwks_json(&mint));
        for (source, words) in [
            (
                &["--auth-keys-file", &good, "--auth-grpc-url", "http://auth:1"][..],
                "cannot be used with",
            ),
            (
                &["--auth-keys-file", &good, "--auth-jwks-url", "http://auth/keys"],
                "cannot be used with",
            ),
            (
                &[
                    "--auth-grpc-url",
                    "http://auth:1",
                    "--auth-jwks-url",
                    "http://auth/keys",
                ],
                "cannot be used with",
            ),
            (
                &["--auth-grpc-url", "http://kim:hunter2@auth:1"],
                "'--auth-grpc-url <URL>': must not hold a user name",
            ),
            (
                &["--auth-jwks-url", "https://kim:hunter2@auth/"],
                "'--auth-jwks-url <URL>': must not hold a user name",
            ),
            (
                &["--auth-jwks-url", "ftp://kim:hunter2@auth/"],
                "'--auth-jwks-url <URL>': must start with http",
            ),
            (
                &["--keys-refresh-seconds", "0"],
                "must be a whole number from 1 to 86400",
            ),
            (
                &["--auth-client-id", "game-service"],
                "the following required arguments were not provided",
            ),
            (
                &["--auth-client-secret", "hunter2"],
                "the following required arguments were not provided",
            ),
            (
                &[
                    "--auth-keys-file",
                    &good,
                    "--auth-client-id",
                    "game-service",
                    "--auth-client-secret",
                    "hunter2",
                ],
                "cannot be used with",
            ),
            (&["--access-feed-silence-reads", "perhaps"], "invalid value 'perhaps'"),
        ] {
            let ended = files.refused(source).await;
            let line = ended.bad_setting();
            assert!(line.contains(words), "{source:?}: {line}");
            assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        }
    });
}

#[test]
fn one_of_eight_starting_replicas_migrates() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let arguments = ["migrate", "--log-level", "error", "--database-url", database.url()];
        let replicas: Vec<Program> = (0..8).map(|_| Program::start(GAME_SERVICE, arguments)).collect();
        let mut answers = Vec::new();
        for replica in replicas {
            let ended = replica.ended().await;
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
            answers.push(ended.stdout);
        }
        answers.sort();
        assert!(answers[0].starts_with("applied 2026"), "{answers:?}");
        let rest = &answers[1..];
        assert!(
            rest.iter().all(|answer| answer == "the database is up to date\n"),
            "{rest:?}"
        );
    });
}

#[test]
fn help_names_every_setting() {
    block_on(async {
        for command in ["serve", "migrate"] {
            let ended = Program::start(GAME_SERVICE, [command, "--help"]).ended().await;
            ended.documents_every_option();
        }
    });
}

/// Runs a command, asserts its exit code and returns its output.
async fn ran(files: &ProgramFiles, code: i32, arguments: &[&str]) -> String {
    let program = Program::start(GAME_SERVICE, [arguments, &["--database-url", &files.url]].concat());
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(code), "{ended:?}");
    // There is no progress bar, since the output is not a terminal.
    assert!(!ended.stderr.contains("games and players"), "{ended:?}");
    ended.stdout + &ended.stderr
}

/// Executes a statement on the database, and returns how many rows it changed.
async fn execute(files: &ProgramFiles, statement: &str) -> usize {
    let settings = DatabaseSettings::new(files.url.parse().expect("a URL"));
    let db = Db::connect_beside(&settings).await.expect("connected");
    let changed: db::Result<usize> = db::write_tx!(db, |tx| db::query!(tx, |c| {
        diesel_async::RunQueryDsl::execute(diesel::sql_query(statement), c).await
    }));
    changed.expect("changed")
}

async fn change(files: &ProgramFiles, statement: &str) {
    assert!(execute(files, statement).await > 0, "{statement}");
}

async fn drift_is_found_and_repaired(files: &ProgramFiles) {
    let check = ["recompute-leaderboard", "--check"];
    assert!(
        ran(files, 1, &check)
            .await
            .contains("the database lacks the migrations")
    );
    ran(files, 0, &["migrate"]).await;
    let mint = TokenMint::random();
    let key = files.write("key.pem", &mint.public_pem());
    let program = files.serve(&["--auth-keys-file", &key]);
    let at = program.addresses().await;
    believes(at, &mint).await;

    // Both commands run while the service does.
    let ids = files.write("ids", "");
    let seeded = ran(
        files,
        0,
        &["seed", "--players", "50", "--games", "400", "--players-file", &ids],
    )
    .await;
    assert!(seeded.starts_with("added 50 players and 400 games in "), "{seeded}");
    let ids = fs::read_to_string(ids).expect("the ids");
    assert_eq!(ids.lines().filter(|id| id.parse::<UserId>().is_ok()).count(), 50);
    let sound = "compared 400 games and 50 players: the histories of 0 games and the statistics of 0 players differ\n\
                 the leaderboard matches the finished games\n";
    assert_eq!(ran(files, 0, &check).await, sound);

    // Faults of every kind. All but the third concern at most six players, so at least one of its
    // ten players differs in the time alone.
    for statement in [
        "DELETE FROM game_results WHERE game_id IN (SELECT id FROM games WHERE state = 'draw' LIMIT 1)",
        "UPDATE game_results SET result = 'lost' WHERE game_id IN (SELECT game_id FROM game_results WHERE result = \
        'drawn' LIMIT 1)",
        "UPDATE player_stats SET last_finish_time = (SELECT min(last_finish_time) FROM player_stats) WHERE user_id IN \
        (SELECT user_id FROM player_stats WHERE last_finish_time > (SELECT min(last_finish_time) FROM player_stats) \
        ORDER BY user_id LIMIT 10)",
        "DELETE FROM player_stats WHERE user_id IN (SELECT user_id FROM player_stats ORDER BY user_id LIMIT 1)",
        "UPDATE player_stats SET wins = wins + 1 WHERE user_id IN (SELECT user_id FROM player_stats ORDER BY user_id \
        DESC LIMIT 1)",
    ] {
        change(files, statement).await;
    }
    let found = ran(files, 1, &check).await;
    for words in [
        "the history says nothing",
        "the stats say nothing",
        " won, ",
        ", at another time",
        "changed nothing",
    ] {
        assert!(found.contains(words), "{words} is not in {found}");
    }
    // A check changes nothing.
    assert_eq!(ran(files, 1, &check).await, found);
    assert!(
        ran(files, 0, &["recompute-leaderboard"])
            .await
            .ends_with("repaired: the leaderboard matches the finished games\n")
    );
    assert_eq!(ran(files, 0, &check).await, sound);
    for (arguments, words) in [
        (
            &["seed", "--players", "1", "--games", "1"][..],
            "must be a whole number from 2 to 10000000",
        ),
        (&["seed", "--players", "2"], "--games <N>"),
    ] {
        assert!(ran(files, 64, arguments).await.contains(words), "{arguments:?}");
    }
    program.signal(Signal::Terminate);
    assert_eq!(program.ended().await.code, Some(0));
}

/// Writes the ids to a full disk, and lets the second transaction of the second run fail.
#[test]
fn a_seeding_error_is_reported_even_if_the_ids_cannot_be_written() {
    block_on(async {
        let files = ProgramFiles::new();
        fs::write(files.folder.path().join("game.db"), "").expect("write a file");
        ran(&files, 0, &["migrate"]).await;
        let seed = [
            "seed",
            "--players",
            "2",
            "--games",
            "4000",
            "--players-file",
            "/dev/full",
        ];
        let told = ran(&files, 1, &seed).await;
        assert!(told.contains("cannot write /dev/full"), "{told}");
        let trigger = "CREATE TRIGGER full BEFORE INSERT ON games WHEN (SELECT count(*) FROM games) >= 7000 \
            BEGIN SELECT RAISE(ABORT, 'there is room for 7000 games'); END";
        execute(&files, trigger).await;
        let told = ran(&files, 1, &seed).await;
        assert!(told.contains("there is room for 7000 games"), "{told}");
        assert!(!told.contains("/dev/full"), "{told}");
    });
}

#[test]
fn drift_of_the_leaderboard_is_found_and_repaired_on_sqlite() {
    block_on(async {
        let files = ProgramFiles::new();
        // A missing database is not created.
        assert!(
            ran(&files, 1, &["recompute-leaderboard"])
                .await
                .contains("cannot be opened")
        );
        fs::write(files.folder.path().join("game.db"), "").expect("write a file");
        drift_is_found_and_repaired(&files).await;
    });
}

#[test]
fn drift_of_the_leaderboard_is_found_and_repaired_on_postgres() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let files = ProgramFiles {
            url: database.url().to_owned(),
            ..ProgramFiles::new()
        };
        drift_is_found_and_repaired(&files).await;
    });
}
