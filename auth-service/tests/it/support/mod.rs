//! A running auth-service with a database and ports of its own, and clients for it.

pub(crate) mod callers;

use std::{net::SocketAddr, time::Duration};

use auth_service::{AuthService, ServerSecrets, config::AuthSettings};
use base::{
    clock::{Clock, ClockHand, Timestamp},
    running::Running,
};
use clap::Parser;
use diesel_async::RunQueryDsl as _;
use proto::auth::v1::{
    LoginRequest, RegisterRequest, RegisterResponse, RotateTokensRequest, TokenPair, UpdateMeRequest, User,
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    key_service_client::KeyServiceClient,
};
use secrecy::ExposeSecret as _;
use server::ServerSettings;
use testing::{
    TestDatabase,
    rpc::{channel, listener},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

/// Time at which the clocks of the tests start: 2026-11-21T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

pub(crate) const PASSWORD: &str = "correct horse";

/// A running auth-service.
pub(crate) struct Server {
    pub(crate) database: TestDatabase,
    pub(crate) running: Running,
    pub(crate) clock: ClockHand,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) secret: String,
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    settings: AuthSettings,
}

/// Returns settings from these arguments, with password hashing that costs next to nothing.
pub(crate) fn settings(arguments: &[&str]) -> AuthSettings {
    let cheap = ["test", "--hashing-memory-kib", "8", "--hashing-passes", "1"];
    Cli::try_parse_from(cheap.iter().chain(arguments))
        .expect("good arguments")
        .settings
}

impl Server {
    pub(crate) async fn start(database: TestDatabase) -> Self {
        Self::start_with(database, &settings(&[])).await
    }

    pub(crate) async fn start_with(database: TestDatabase, settings: &AuthSettings) -> Self {
        Self::start_limited(database, settings, &ServerSettings::default()).await
    }

    pub(crate) async fn start_limited(
        database: TestDatabase,
        settings: &AuthSettings,
        server: &ServerSettings,
    ) -> Self {
        let (clock, hand) = Clock::manual(START);
        hand.settle();
        Self::start_by(database, settings, server, (clock, hand)).await
    }

    /// Starts a server that does not trust its clock yet, as after every real start.
    pub(crate) async fn start_unsettled(database: TestDatabase, settings: &AuthSettings) -> Self {
        Self::start_by(database, settings, &ServerSettings::default(), Clock::manual(START)).await
    }

    async fn start_by(
        database: TestDatabase,
        settings: &AuthSettings,
        server: &ServerSettings,
        (clock, hand): (Clock, ClockHand),
    ) -> Self {
        let secret = ServerSecrets::generate().expose_secret().to_owned();
        let db = database.db().clone();
        let (running, grpc, http) = spawn(settings, server, db, &secret, clock).await;
        Self {
            database,
            running,
            clock: hand,
            grpc,
            http,
            secret,
        }
    }

    /// Starts the service once more on the same database, as a restart or another replica would. It
    /// shares this server's clock.
    pub(crate) async fn replica(&self) -> (Running, AuthServiceClient<Channel>) {
        self.replica_with(&self.secret).await
    }

    /// Starts a replica with these settings. Its clock is ahead by this many seconds, or behind if
    /// the number is negative.
    pub(crate) async fn replica_ahead(
        &self,
        seconds: i64,
        settings: &AuthSettings,
    ) -> (Running, AuthServiceClient<Channel>) {
        let db = self.database.replica().await;
        let clock = self.clock.clock_ahead(seconds);
        let (running, grpc, _) = spawn(settings, &ServerSettings::default(), db, &self.secret, clock).await;
        (running, AuthServiceClient::new(channel(grpc)))
    }

    /// Starts a replica with this server secret.
    pub(crate) async fn replica_with(&self, secret: &str) -> (Running, AuthServiceClient<Channel>) {
        let db = self.database.replica().await;
        let (running, grpc, _) = spawn(
            &settings(&[]),
            &ServerSettings::default(),
            db,
            secret,
            self.clock.clock(),
        )
        .await;
        (running, AuthServiceClient::new(channel(grpc)))
    }

    /// Starts a replica with these settings and a trusted clock of its own, this long after
    /// [`START`].
    pub(crate) async fn restarted_after(&self, time: Duration, settings: &AuthSettings) -> Running {
        let (clock, hand) = Clock::manual(START.plus(time));
        hand.settle();
        let db = self.database.replica().await;
        spawn(settings, &ServerSettings::default(), db, &self.secret, clock)
            .await
            .0
    }

    /// Starts a replica with a clock of its own, this long after [`START`], which it does not trust
    /// yet.
    pub(crate) async fn restarted_unsettled_after(&self, time: Duration) -> Running {
        let clock = Clock::manual(START.plus(time)).0;
        let db = self.database.replica().await;
        spawn(&settings(&[]), &ServerSettings::default(), db, &self.secret, clock)
            .await
            .0
    }

    pub(crate) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(channel(self.grpc))
    }

    pub(crate) fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(channel(self.grpc))
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(channel(self.grpc))
    }

    /// Registers a user with this login.
    pub(crate) async fn register(&self, login: &str) -> RegisterResponse {
        self.auth()
            .register(registration(login))
            .await
            .expect("registered")
            .into_inner()
    }

    /// Logs a user in.
    pub(crate) async fn login(&self, login: &str) -> TokenPair {
        let answer = self.auth().login(credentials(login, PASSWORD)).await;
        answer.expect("logged in").into_inner().tokens.expect("tokens")
    }

    /// Makes two logins at once at a server that has room for one. Returns the refusal of one
    /// login, and the other login, which is still being hashed. The settings must make a hash slow.
    pub(crate) async fn refuse_one_of_two_logins(&self) -> (Status, JoinHandle<Status>) {
        refuse_one_of_two_calls(|| {
            let mut client = self.auth();
            async move { client.login(credentials("nobody", PASSWORD)).await.expect_err("nobody") }
        })
        .await
    }

    pub(crate) async fn rotate(&self, refresh_token: &str, request_id: &str) -> Result<TokenPair, Status> {
        rotate(&mut self.auth(), refresh_token, request_id).await
    }
}

/// Returns a request to change the caller's own account, with the password that all test users
/// have.
pub(crate) fn with_password(user: User) -> UpdateMeRequest {
    UpdateMeRequest {
        user: Some(user),
        update_mask: None,
        current_password: PASSWORD.to_owned(),
    }
}

/// Makes two calls at once, until one of them is refused while the other is in flight. Returns the
/// refusal and the other call.
pub(crate) async fn refuse_one_of_two_calls<F>(call: impl Fn() -> F) -> (Status, JoinHandle<Status>)
where
    F: Future<Output = Status> + Send + 'static,
{
    loop {
        let (mut one, mut two) = (tokio::spawn(call()), tokio::spawn(call()));
        let (first, other) = tokio::select! {
            first = &mut one => (first.expect("joined"), two),
            first = &mut two => (first.expect("joined"), one),
        };
        if first.code() == Code::ResourceExhausted {
            return (first, other);
        }
        // The calls did not overlap, so try again.
        other.await.expect("joined");
    }
}

pub(crate) async fn spawn(
    settings: &AuthSettings,
    server: &ServerSettings,
    db: db::Db,
    secret: &str,
    clock: Clock,
) -> (Running, SocketAddr, SocketAddr) {
    let (grpc, http) = (listener().await, listener().await);
    let (grpc_address, http_address) = (grpc.address(), http.address());
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let service = AuthService {
        settings,
        server,
        db,
        secrets: secret.parse().expect("a secret"),
        service_accounts: settings.service_accounts().expect("good accounts"),
        clock,
        grpc,
        http,
    };
    service.spawn(true, &running).await.expect("started");
    (running, grpc_address, http_address)
}

pub(crate) async fn rotate(
    client: &mut AuthServiceClient<Channel>,
    refresh_token: &str,
    request_id: &str,
) -> Result<TokenPair, Status> {
    let request = RotateTokensRequest {
        refresh_token: refresh_token.to_owned(),
        request_id: request_id.to_owned(),
        ..RotateTokensRequest::default()
    };
    Ok(client
        .rotate_tokens(request)
        .await?
        .into_inner()
        .tokens
        .expect("tokens"))
}

pub(crate) fn registration(login: &str) -> RegisterRequest {
    RegisterRequest {
        email: format!("{login}@example.test"),
        login: login.to_owned(),
        password: PASSWORD.to_owned(),
        password_confirmation: PASSWORD.to_owned(),
        first_name: String::new(),
        last_name: String::new(),
        middle_name: String::new(),
        ..RegisterRequest::default()
    }
}

pub(crate) fn credentials(identifier: &str, password: &str) -> LoginRequest {
    LoginRequest {
        identifier: identifier.to_owned(),
        password: password.to_owned(),
        ..LoginRequest::default()
    }
}

/// Returns the content of the database as text: the database files on SQLite, and every table that
/// could contain a secret on PostgreSQL.
pub(crate) async fn dump(database: &TestDatabase) -> String {
    match database.backend() {
        db::Backend::Sqlite => {
            let path = database.url().trim_start_matches("sqlite:");
            let files = [path.to_owned(), format!("{path}-wal")];
            let bytes = files
                .iter()
                .filter_map(|file| std::fs::read(file).ok())
                .flatten()
                .collect::<Vec<_>>();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        db::Backend::Postgres => {
            let mut conn = database.db().read().await.expect("a connection");
            let mut text = String::new();
            for table in [
                "users",
                "sessions",
                "signing_keys",
                "service_accounts",
                "login_throttle",
                "access_feed",
                "audit_events",
                "account_codes",
                "mail_requests",
                "mail_outbox",
                "guest_credentials",
                "totp_factors",
                "recovery_codes",
                "login_challenges",
            ] {
                let sql = format!("SELECT coalesce(string_agg(t::text, ' '), '') AS text FROM {table} t");
                let rows: db::Result<Vec<Row>> = db::query!(&mut conn, |c| diesel_async::RunQueryDsl::load(
                    diesel::sql_query(&sql),
                    c
                )
                .await);
                text.extend(rows.expect("a dump").into_iter().map(|row| row.text));
            }
            text
        }
    }
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

impl Server {
    /// Registers the superuser `root` and returns an access token.
    pub(crate) async fn superuser(&self) -> String {
        let user = self.register("root").await.user.expect("a user");
        let sql = "INSERT INTO user_roles (user_id, role_id) \
            SELECT users.id, roles.id FROM users, roles
            WHERE users.login = 'root' AND roles.code_name IN ('superuser', 'admin')";
        let granted: db::Result<usize> = db::write_tx!(self.database.db(), |tx| {
            db::query!(tx, |c| diesel_async::RunQueryDsl::execute(diesel::sql_query(sql), c)
                .await)
        });
        assert_eq!(granted.expect("granted"), 2, "{user:?}");
        self.login("root").await.access_token
    }
}

/// Returns the field mask of an update.
pub(crate) fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    }
}

/// Runs a statement.
pub(crate) async fn execute(server: &Server, sql: &str) {
    let ran: db::Result<usize> = db::write_tx!(server.database.db(), |tx| {
        db::query!(tx, |c| diesel_async::RunQueryDsl::execute(diesel::sql_query(sql), c)
            .await)
    });
    ran.expect(sql);
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

/// Counts the rows of a table, or of a table and a condition.
pub(crate) async fn count(db: &db::Db, what: &str) -> i64 {
    let mut conn = db.read().await.expect("a connection");
    let sql = format!("SELECT count(*) AS count FROM {what}");
    let row: db::Result<Count> = db::query!(&mut conn, |c| diesel::sql_query(&sql).get_result(c).await);
    row.expect("a count").count
}
