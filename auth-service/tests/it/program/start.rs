//! The program: how it starts, how it reports bad settings, and how it ends.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use auth_service::ServerSecrets;
use db::Backend;
use proto::auth::v1::{IssueServiceTokenRequest, RegisterResponse, auth_service_client::AuthServiceClient};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use testing::{
    TestDatabase, block_on,
    program::{Addresses, Ended, Program, Signal, get, serving},
    rpc::{channel, reason},
    write_secret,
};
use tokio::net::TcpStream;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    feed::stream::SECRET,
    support::{PASSWORD, callers::eventually, credentials, registration, rotate},
};

pub(crate) const AUTH_SERVICE: &str = env!("CARGO_BIN_EXE_auth-service");

/// The database and the server secret of one program under test, and a folder for its files.
pub(crate) struct ProgramSetup {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) secret_file: PathBuf,
}

impl ProgramSetup {
    pub(crate) async fn new(backend: Backend) -> Self {
        let mut setup = Self::at(String::new());
        setup.url = match backend {
            Backend::Sqlite => format!("sqlite:{}/auth.db", setup.folder.path().display()),
            Backend::Postgres => TestDatabase::create_empty(backend).await.url().to_owned(),
        };
        setup
    }

    /// Returns a setup for an existing database, with a new server secret.
    pub(crate) fn at(url: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let setup = Self {
            url,
            secret_file: folder.path().join("secret"),
            folder,
        };
        setup.write("secret", ServerSecrets::generate().expose_secret());
        setup
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        write_secret(&path, text);
        path
    }

    /// Starts `serve` with JSON logs and these additional arguments.
    pub(crate) fn serve(&self, more: &[&str]) -> Program {
        self.serve_logging(&["--log-format", "json"], more)
    }

    /// Starts `serve` with only errors logged, and waits until it ends.
    pub(crate) async fn refused(&self, more: &[&str]) -> Ended {
        self.serve_logging(&["--log-level", "error"], more).ended().await
    }

    /// Starts `serve` with JSON logs in this environment.
    pub(crate) fn serve_in(&self, environment: &[(&str, &str)]) -> Program {
        Program::start_in(
            AUTH_SERVICE,
            self.arguments(&["--log-format", "json"], &[]),
            environment,
        )
    }

    fn serve_logging(&self, log: &[&str], more: &[&str]) -> Program {
        Program::start(AUTH_SERVICE, self.arguments(log, more))
    }

    fn arguments<'a>(&'a self, log: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let secret_file = self.secret_file.to_str().expect("UTF-8");
        let arguments = [
            "serve",
            "--auth-listen",
            "127.0.0.1:0",
            "--auth-http-listen",
            "127.0.0.1:0",
        ];
        let cheap = ["--hashing-memory-kib", "8", "--hashing-passes", "1"];
        let own = ["--database-url", &self.url, "--auth-secret-file", secret_file];
        [&arguments[..], &cheap, &own, log, more].concat()
    }

    /// Starts `serve` with JSON logs and at most this many file descriptors.
    fn serve_with_descriptors(&self, limit: u32) -> Program {
        let secret_file = self.secret_file.to_str().expect("UTF-8");
        let limited = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        let arguments = [
            "-c",
            &limited,
            AUTH_SERVICE,
            "serve",
            "--auth-listen",
            "127.0.0.1:0",
            "--auth-http-listen",
            "127.0.0.1:0",
            "--database-url",
            &self.url,
            "--auth-secret-file",
            secret_file,
            "--log-format",
            "json",
        ];
        Program::start("sh", arguments)
    }
}

pub(crate) async fn register(at: Addresses, login: &str) -> RegisterResponse {
    let mut client = AuthServiceClient::new(channel(at.grpc));
    let answer = client.register(registration(login)).await;
    answer.expect("registered").into_inner()
}

pub(crate) async fn jwks(at: Addresses) -> String {
    let (status, body) = get(at.http, "/.well-known/jwks.json").await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn a_restart_keeps_all_data(backend: Backend) {
    let setup = ProgramSetup::new(backend).await;
    let program = setup.serve(&[]);
    let at = program.addresses().await;
    serving(at.grpc).await;
    assert_eq!(get(at.http, "/readyz").await, (200, "serving\n".to_owned()));
    let keys = jwks(at).await;
    let refresh_token = register(at, "ann").await.tokens.expect("tokens").refresh_token;
    program.signal(Signal::Terminate);
    let ended = program.ended_within(Duration::from_secs(20)).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    assert!(
        !ended.stderr.contains(PASSWORD) && !ended.stderr.contains(&refresh_token),
        "{ended:?}"
    );

    let program = setup.serve(&["--migrate", "false"]);
    let at = program.addresses().await;
    serving(at.grpc).await;
    assert_eq!(jwks(at).await, keys);
    let mut client = AuthServiceClient::new(channel(at.grpc));
    client.login(credentials("ann", PASSWORD)).await.expect("logged in");
    rotate(&mut client, &refresh_token, "").await.expect("rotated");
}

#[test]
fn a_restart_keeps_all_data_on_sqlite() {
    block_on(a_restart_keeps_all_data(Backend::Sqlite));
}

#[test]
fn a_restart_keeps_all_data_on_postgres() {
    block_on(a_restart_keeps_all_data(Backend::Postgres));
}

/// Uses the default settings. A deployment kills the program if it has not ended 20 s after the
/// signal.
#[test]
fn it_stops_in_time_while_a_client_watches_health() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let program = setup.serve(&[]);
        let at = program.addresses().await;
        serving(at.grpc).await;
        let mut client = HealthClient::new(channel(at.grpc));
        let watch = client.watch(HealthCheckRequest::default()).await.expect("health");
        let mut watch = watch.into_inner();
        let mut change = async || watch.message().await.expect("health").expect("a change").status();
        assert_eq!(change().await, ServingStatus::Serving);
        program.signal(Signal::Terminate);
        assert_eq!(change().await, ServingStatus::NotServing);
        let ended = program.ended_within(Duration::from_secs(20)).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

/// Ends streams of the access feed at once, and not only at the end of the grace period.
#[test]
fn it_stops_at_once_while_the_access_feed_is_followed() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let accounts = format!(r#"[{{"client_id": "game-service", "secret": "{SECRET}"}}]"#);
        let accounts = setup.write("accounts", &accounts);
        let arguments = ["--service-accounts-file", accounts.to_str().expect("UTF-8")];
        let program = setup.serve(&[&arguments[..], &["--drain-timeout-seconds", "600"]].concat());
        let at = program.addresses().await;
        serving(at.grpc).await;
        let mut stream = crate::feed::stream::watch(at.grpc, "", 0).await;
        stream.message().await.expect("a message").expect("a snapshot");
        program.signal(Signal::Terminate);
        let ended = loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "it ends with a status"),
                Err(status) => break status,
            }
        };
        assert_eq!(
            (ended.code(), reason(&ended)),
            (tonic::Code::Unavailable, "SHUTTING_DOWN".to_owned())
        );
        let ended = program.ended_within(Duration::from_secs(20)).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let events = ended.stderr.lines();
        let events: Vec<serde_json::Value> = events.map(|line| serde_json::from_str(line).expect(line)).collect();
        // A stream that ends at a shutdown is normal, so it is logged as INFO and not as a warning.
        let call = events.iter().find(|event| event["span"]["rpc.method"] == "Watch");
        let call = call.unwrap_or_else(|| panic!("no end of the stream: {ended:?}"));
        assert_eq!(
            [&call["level"], &call["rpc.grpc.status_code"], &call["reason"]],
            ["INFO", "UNAVAILABLE", "SHUTTING_DOWN"],
            "{call}"
        );
        assert!(call["elapsed_us"].is_u64() && call["spans"].is_null(), "{call}");
        assert_eq!(events.last().expect("a last line")["message"], "stopped");
    });
}

#[test]
fn it_keeps_serving_when_clients_take_all_descriptors() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let program = setup.serve_with_descriptors(256);
        let at = program.addresses().await;
        serving(at.grpc).await;
        let mut silent = Vec::new();
        for _ in 0..300 {
            silent.push(TcpStream::connect(at.grpc).await.expect("connected"));
        }
        // The gRPC port is full, but operators still get health and metrics over HTTP.
        for _ in 0..10 {
            assert_eq!(get(at.http, "/readyz").await.0, 200);
        }
        let (_, metrics) = get(at.http, "/metrics").await;
        let refused = metrics.lines().find_map(|line| {
            line.strip_prefix("server_connections_refused_total{port=\"grpc\",reason=\"descriptors\"} ")
        });
        let refused: u32 = refused.expect("some were refused").parse().expect("a number");
        assert!(refused >= 300 - 256 + 64, "{refused}");
        drop(silent);
        // The server closes its ends one after the other, and may refuse connections until then.
        eventually(async || {
            let mut client = AuthServiceClient::new(channel(at.grpc));
            client.register(registration("ann")).await.ok()
        })
        .await;
        program.signal(Signal::Terminate);
        assert_eq!(program.ended().await.code, Some(0));
    });
}

#[test]
fn a_second_signal_stops_it_at_once() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let program = setup.serve(&["--drain-timeout-seconds", "600"]);
        let at = program.addresses().await;
        serving(at.grpc).await;
        let mut client = HealthClient::new(channel(at.grpc));
        let _watch = client.watch(HealthCheckRequest::default()).await.expect("health");
        program.signal(Signal::Interrupt);
        program
            .logged("shutting down gracefully; signal again to stop at once")
            .await;
        program.signal(Signal::Interrupt);
        assert_eq!(program.ended().await.code, Some(130));
    });
}

#[test]
fn a_bad_setting_exits_with_64_and_a_clear_message() {
    const HIDDEN: &str = "hunter2";
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let short = setup.write("short", &format!("{HIDDEN}="));
        let short = short.to_str().expect("UTF-8");
        let secret = setup.secret_file.to_str().expect("UTF-8");
        let with = |name: &'static str, value: &str| vec![name.to_owned(), value.to_owned()];
        let without_secret = || with("--database-url", &setup.url);
        let with_secret = || [without_secret(), with("--auth-secret-file", secret)].concat();
        let providers = setup.write("providers", r#"[{"name": "My IdP", "isuer": "x", "audiences": ["a"]}]"#);
        let providers = providers.to_str().expect("UTF-8");
        let with_database = |url: &str| [with("--database-url", url), with("--auth-secret-file", secret)].concat();
        let bad = |name: &'static str, value: &str| [with_secret(), with(name, value)].concat();
        for (arguments, words) in [
            (bad("--auth-lissen", "127.0.0.1:0"), "--auth-lissen"),
            (bad("--auth-listen", "127.0.0.1:70000"), "--auth-listen"),
            (bad("--auth-http-listen", "8081"), "--auth-http-listen"),
            (
                bad("--access-token-seconds", "59"),
                "must be a whole number from 60 to 86400",
            ),
            (
                bad("--database-connections", "0"),
                "must be a whole number from 1 to 1000",
            ),
            (
                bad("--hashing-queue", "many"),
                "invalid value 'many' for '--hashing-queue <N>': must be a whole number from 0 to 10000",
            ),
            (bad("--registration-open", "perhaps"), "--registration-open"),
            (bad("--log-level", "shared=loud"), "--log-level"),
            (bad("--log-format", "xml"), "--log-format"),
            (bad("--tls-cert-file", "cert.pem"), "required arguments"),
            (bad("--auth-secret", HIDDEN), "cannot be used with"),
            (without_secret(), "required arguments"),
            (
                [without_secret(), with("--auth-secret", HIDDEN)].concat(),
                "--auth-secret: a server secret is",
            ),
            (
                [without_secret(), with("--auth-secret-file", short)].concat(),
                "short: a server secret is",
            ),
            (
                [without_secret(), with("--auth-secret-file", "/nowhere/secret")].concat(),
                "/nowhere/secret: No such file",
            ),
            (
                bad("--identity-providers-file", "/nowhere/providers"),
                "--identity-providers-file /nowhere/providers: No such file",
            ),
            (bad("--identity-providers-file", providers), "entry 1: name must be"),
            (
                bad("--identity-providers-file", providers),
                "entry 1: isuer is not known",
            ),
            (with("--auth-secret-file", secret), "required arguments"),
            (
                with_database(&format!("mysql://kim:{HIDDEN}@db/auth")),
                "--database-url: the database URL must begin with",
            ),
            (
                with_database(&format!("postgres://kim:{HIDDEN}@db:x/auth")),
                "--database-url: the database URL is not understood",
            ),
            (
                with_database(&format!("postgres://kim:{HIDDEN}@db/auth?sslmode=on")),
                "--database-url: sslmode must be",
            ),
            (
                bad("--database-direct-url", &format!("postgres://kim:{HIDDEN}@db/auth")),
                "--database-direct-url: both this URL and --database-url must be URLs of PostgreSQL",
            ),
            (
                bad("--database-direct-url", &format!("postgres://kim:{HIDDEN}@/auth")),
                "--database-direct-url: the database URL names no host",
            ),
        ] {
            let ended = Program::start(AUTH_SERVICE, [vec!["serve".to_owned()], arguments.clone()].concat())
                .ended()
                .await;
            ended.bad_setting();
            assert!(ended.stderr.contains(words), "{arguments:?}: {ended:?}");
            assert!(!ended.stderr.contains(HIDDEN), "{arguments:?}: {ended:?}");
        }
        assert!(!setup.folder.path().join("auth.db").exists());
    });
}

#[test]
fn a_mail_folder_that_cannot_be_written_to_is_reported() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let file = setup.write("mails", "");
        let file = file.to_str().expect("UTF-8");
        let ended = setup.refused(&["--mail-folder", file]).await;
        let words = format!("--mail-folder {file}: must be a folder in which the service can write");
        assert!(ended.bad_setting().starts_with(&words), "{ended:?}");
    });
}

#[test]
fn a_port_in_use_is_reported() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address").to_string();
        for setting in ["--auth-listen", "--auth-http-listen"] {
            // clap accepts each option only once, so each address is given exactly once.
            let other = if setting == "--auth-listen" {
                "--auth-http-listen"
            } else {
                "--auth-listen"
            };
            let secret = setup.secret_file.to_str().expect("UTF-8");
            let arguments = [
                "serve",
                "--database-url",
                &setup.url,
                "--auth-secret-file",
                secret,
                "--log-level",
                "error",
            ];
            let ports = [setting, &address, other, "127.0.0.1:0"];
            let ended = Program::start(AUTH_SERVICE, [&arguments[..], &ports].concat())
                .ended()
                .await;
            let line = ended.only_line(1);
            assert!(
                line.starts_with(&format!(
                    "cannot listen on {address} ({setting}): Address already in use"
                )),
                "{line}"
            );
        }
        assert!(!setup.folder.path().join("auth.db").exists());
    });
}

#[test]
fn help_lists_every_setting_and_reveals_no_secret() {
    block_on(async {
        let environment = [
            ("DATABASE_URL", "postgres://kim:hunter2@db/auth"),
            ("AUTH_SECRET", "hunter2"),
        ];
        for command in ["serve", "migrate"] {
            let ended = Program::start_in(AUTH_SERVICE, [command, "--help"], &environment)
                .ended()
                .await;
            ended.documents_every_option();
            assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
        }
        let ended = Program::start(AUTH_SERVICE, ["--help"]).ended().await;
        assert_eq!(ended.code, Some(0));
        assert!(
            ended.stdout.contains("serve") && ended.stdout.contains("migrate"),
            "{}",
            ended.stdout
        );
        assert_eq!(Program::start(AUTH_SERVICE, ["--version"]).ended().await.code, Some(0));
        assert_eq!(Program::start(AUTH_SERVICE, [""; 0]).ended().await.code, Some(64));
    });
}

async fn the_probe_command_reports_health_by_its_exit_code(backend: Backend) {
    let setup = ProgramSetup::new(backend).await;
    let program = setup.serve(&[]);
    let at = program.addresses().await;
    serving(at.grpc).await;
    let url = format!("http://{}", at.grpc);
    for (address, service, code, words) in [
        (url.as_str(), "", 0, "serving"),
        (&url, "auth.v1.AuthService", 0, "serving"),
        (&url, "auth.v1.NoService", 3, "does not know"),
        ("http://127.0.0.1:1", "", 2, "cannot reach"),
        ("ftp://127.0.0.1", "", 64, "--address"),
    ] {
        let ended = Program::start(AUTH_SERVICE, ["probe", "--address", address, "--service", service])
            .ended()
            .await;
        assert_eq!(ended.code, Some(code), "{address} {service}: {ended:?}");
        let said = if code == 0 { &ended.stdout } else { &ended.stderr };
        // A setting that cannot be parsed is explained in more than one line.
        let is_short = code == 64 || said.lines().count() == 1;
        assert!(said.contains(words) && is_short, "{ended:?}");
    }
    let unreachable = ProgramSetup {
        url: "postgres://nobody@127.0.0.1:1/none".to_owned(),
        ..setup
    };
    let waiting = unreachable.serve(&[]);
    let address = format!("http://{}", waiting.addresses().await.grpc);
    let ended = Program::start(AUTH_SERVICE, ["probe", "--address", &address])
        .ended()
        .await;
    assert!(ended.only_line(4).contains("not serving"));
}

async fn a_service_account_created_by_the_command_gets_tokens(backend: Backend) {
    let setup = ProgramSetup::new(backend).await;
    let create = |arguments: &[&str]| {
        let own = ["create-service-account", "--database-url", &setup.url];
        Program::start(AUTH_SERVICE, [&own[..], arguments].concat())
    };
    // The service creates its roles and permissions when it runs for the first time.
    let program = setup.serve(&[]);
    serving(program.addresses().await.grpc).await;
    program.signal(Signal::Terminate);
    program.ended().await;
    let made = create(&["--client-id", "courses", "--permission", "users:read"])
        .ended()
        .await;
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    for (arguments, code, words) in [
        (["--client-id", "courses", "--role", "service"], 1, "already exists"),
        (["--client-id", "A", "--role", "service"], 64, "--client-id"),
        (["--client-id", "others", "--role", "nobody"], 1, "no role nobody"),
        (
            ["--client-id", "others", "--permission", "none"],
            64,
            "--permission none",
        ),
    ] {
        let ended = create(&arguments).ended().await;
        assert!(ended.only_line(code).contains(words), "{ended:?}");
    }
    let program = setup.serve(&[]);
    let at = program.addresses().await;
    serving(at.grpc).await;
    let request = IssueServiceTokenRequest {
        client_id: "courses".to_owned(),
        client_secret: made.stdout.trim().to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    let token = AuthServiceClient::new(channel(at.grpc))
        .issue_service_token(request)
        .await;
    assert!(!token.expect("a token").into_inner().access_token.is_empty());
}

async fn one_of_many_concurrent_create_admin_commands_succeeds(backend: Backend) {
    let setup = ProgramSetup::new(backend).await;
    let migrated = Program::start(AUTH_SERVICE, ["migrate", "--database-url", &setup.url]);
    assert_eq!(migrated.ended().await.code, Some(0));
    let password = setup.write("password", "correct horse battery");
    let password = password.to_str().expect("UTF-8");
    let create = || {
        let own = ["create-admin", "--database-url", &setup.url, "--login", "root"];
        // On a busy machine, the ten programs share the database connections with all other tests.
        let patient = ["--database-acquire-seconds", "60"];
        let rest = ["--email", "root@example.com", "--password-file", password];
        Program::start(AUTH_SERVICE, [&own[..], &rest, &patient].concat())
    };
    let programs: Vec<Program> = (0..10).map(|_| create()).collect();
    let mut made = 0;
    for program in programs {
        let ended = program.ended().await;
        if ended.code == Some(0) {
            made += 1;
        } else {
            let line = ended.only_line(1);
            // If two insert at the same moment, the later one is told about one of the names only.
            let is_taken = ["login", "email"].map(|name| format!("another user already has this {name}"));
            assert!(is_taken.iter().any(|taken| line.contains(taken)), "{line}");
        }
    }
    assert_eq!(made, 1);
}

#[test]
fn one_of_many_concurrent_create_admin_commands_succeeds_on_sqlite() {
    block_on(one_of_many_concurrent_create_admin_commands_succeeds(Backend::Sqlite));
}

#[test]
fn one_of_many_concurrent_create_admin_commands_succeeds_on_postgres() {
    block_on(one_of_many_concurrent_create_admin_commands_succeeds(Backend::Postgres));
}

#[test]
fn secret_files_that_others_can_read_are_reported() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let open = |name: &str| {
            let path = setup.write(name, "x");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
            path.to_str().expect("UTF-8").to_owned()
        };
        let settings = [
            "--auth-secret-file",
            "--database-password-file",
            "--service-accounts-file",
            "--bootstrap-admin-password-file",
            "--tls-key-file",
            "--tls-cert-file",
        ];
        let files = settings.map(open);
        let mut arguments = vec!["serve", "--database-url", &setup.url];
        for (setting, file) in settings.iter().zip(&files) {
            arguments.extend([*setting, file]);
        }
        let ended = Program::start(AUTH_SERVICE, arguments).ended().await;
        ended.bad_setting();
        for (setting, file) in settings
            .iter()
            .zip(&files)
            .filter(|(setting, _)| **setting != "--tls-cert-file")
        {
            let (named, command) = (format!("{setting} {file}: "), format!("run `chmod g-w,o-rwx {file}`"));
            assert!(
                ended.stderr.contains(&named) && ended.stderr.contains(&command),
                "{ended:?}"
            );
        }
        assert!(
            !ended.stderr.contains("--tls-cert-file"),
            "a certificate is no secret: {ended:?}"
        );
    });
}

#[test]
fn the_probe_command_reports_health_by_its_exit_code_on_sqlite() {
    block_on(the_probe_command_reports_health_by_its_exit_code(Backend::Sqlite));
}

#[test]
fn a_service_account_created_by_the_command_gets_tokens_on_sqlite() {
    block_on(a_service_account_created_by_the_command_gets_tokens(Backend::Sqlite));
}

#[test]
fn a_service_account_created_by_the_command_gets_tokens_on_postgres() {
    block_on(a_service_account_created_by_the_command_gets_tokens(Backend::Postgres));
}

/// Treats an empty variable as unset, because deployment templates leave variables empty if they
/// have no value for them.
#[test]
fn empty_environment_variables_count_as_unset() {
    block_on(async {
        let help = Program::start(AUTH_SERVICE, ["serve", "--help"]).ended().await.stdout;
        let names = help
            .split("[env: ")
            .skip(1)
            .filter_map(|rest| rest.split(['=', ']']).next());
        let empty: Vec<(&str, &str)> = names.map(|name| (name, "")).collect();
        assert!(
            empty.len() > 50 && empty.contains(&("TRUSTED_PROXIES", "")),
            "{empty:?}"
        );
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let program = setup.serve_in(&empty);
        serving(program.addresses().await.grpc).await;
        let ended = Program::start_in(AUTH_SERVICE, ["serve"], &empty).ended().await;
        assert!(ended.bad_setting().contains("required"), "{ended:?}");
    });
}
