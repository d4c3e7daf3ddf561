//! PostgreSQL for tests. `TEST_POSTGRES_URL` can name a server, whose user must be allowed to
//! create databases; a few tests need a superuser. Otherwise, each test process starts a throw-away
//! cluster once, with programs that are installed or fetched.
//!
//! `cargo test` has no hook for tearing down, so a supervisor does it: a shell whose standard input
//! is a pipe from this process. When the process ends in whatever way, the pipe closes, and the
//! shell stops the server and removes its directory.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use diesel_async::SimpleAsyncConnection as _;
use parking_lot::Mutex;
use url::Url;

use super::postgres_programs;
use crate::{DatabaseSettings, Db, query};

/// Script that reads commands, one per line, and answers each with one line.
const SUPERVISOR: &str = include_str!("postgres-supervisor.sh");

/// Options of a throw-away server, which needs no durability.
const THROW_AWAY: &str = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off";

/// Options of a replicated server. Commits wait for a synchronous standby if there is one, but not
/// for the disk.
const REPLICATED: &str = "-c fsync=off -c full_page_writes=off -c wal_receiver_status_interval=1s";

/// Time limit that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(60);

/// Number of ports to try, since another process may take a port before the server binds it.
const PORT_ATTEMPTS: usize = 5;

/// A private PostgreSQL server that stops when this value is dropped, or when the process ends.
pub struct Cluster {
    port: u16,
    directory: PathBuf,
    supervisor: Mutex<Supervisor>,
}

struct Supervisor {
    process: Child,
    /// `None` once the supervisor has to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Certificate and private key, in PEM, of a server that offers TLS.
pub struct ServerIdentity<'a> {
    /// Certificate chain.
    pub certificate: &'a str,
    /// Private key of the certificate.
    pub key: &'a str,
}

/// Returns the URL of a database on the PostgreSQL server that all tests of this process share.
pub fn url(database: &str) -> String {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a test has no command line to take this from")]
    let given = env::var("TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty());
    let Some(given) = given else {
        return SHARED.get_or_init(|| Cluster::start(None)).url(database);
    };
    let mut url = Url::parse(&given).expect("TEST_POSTGRES_URL is a URL");
    url.set_path(database);
    url.into()
}

impl Cluster {
    /// Starts a cluster. Its superuser `postgres` needs no password.
    pub fn start(identity: Option<&ServerIdentity<'_>>) -> Self {
        Self::start_with(identity, THROW_AWAY)
    }

    /// Starts a cluster with PostgreSQL's default durability, for measurements.
    pub fn start_durable() -> Self {
        Self::start_with(None, "")
    }

    /// Starts a cluster whose server has these additional options, such as `-c fsync=off`.
    pub fn start_with_options(options: &str) -> Self {
        Self::start_with(None, options)
    }

    /// Starts a server and a hot standby that follows it by streaming replication.
    pub fn start_with_standby() -> (Self, Self) {
        let primary = Self::start_with(None, REPLICATED);
        let mut standby = Self::prepare(REPLICATED);
        let copied = standby.command(&format!("standby {}", primary.port));
        assert!(copied, "the server cannot be copied:\n{}", standby.log());
        standby.start_somewhere();
        (primary, standby)
    }

    fn start_with(identity: Option<&ServerIdentity<'_>>, options: &str) -> Self {
        let mut cluster = Self::prepare(options);
        assert!(cluster.command("init"), "initdb failed:\n{}", cluster.log());
        if let Some(identity) = identity {
            cluster.install(identity);
        }
        cluster.start_somewhere();
        cluster
    }

    /// Creates the directory of a cluster, and the supervisor that will remove it.
    fn prepare(options: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("test-postgres-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let mut command = Command::new("sh");
        let owner = fs::metadata(&directory).expect("its metadata").uid();
        // PostgreSQL refuses to run as root.
        let programs = if owner == 0 {
            let (uid, gid) = unprivileged_user();
            chown(&directory, Some(uid), Some(gid)).expect("give the directory away");
            command.uid(uid).gid(gid);
            postgres_programs::folder_for((uid, gid), &directory)
        } else {
            postgres_programs::folder().to_owned()
        };
        let mut process = command
            .args(["-c", SUPERVISOR, "sh"])
            .arg(&programs)
            .arg(&directory)
            .arg(options)
            .current_dir(&directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start sh");
        Self {
            port: 0,
            directory,
            supervisor: Mutex::new(Supervisor {
                commands: process.stdin.take(),
                answers: BufReader::new(process.stdout.take().expect("it is piped")),
                process,
            }),
        }
    }

    fn start_somewhere(&mut self) {
        for _ in 0..PORT_ATTEMPTS {
            self.port = free_port();
            if self.command(&format!("start {}", self.port)) {
                return;
            }
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database.
    pub async fn create_database(&self, name: &str) {
        let settings = DatabaseSettings::new(self.url("postgres").parse().expect("a URL"));
        let db = Db::connect(&settings).await.expect("a pool");
        let mut conn = db.read().await.expect("a connection");
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        query!(&mut conn, |c| c.batch_execute(&sql).await).expect("created");
    }

    /// Waits until this standby has received a database.
    pub async fn wait_for_database(&self, name: &str) {
        let url = format!("{}?target_session_attrs=any", self.url(name));
        let settings = DatabaseSettings::new(url.parse().expect("a URL"));
        let db = Db::connect(&settings).await.expect("a pool");
        let has = async {
            while db.read().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, has).await.expect("it follows");
    }

    /// Stops the server, which closes every connection.
    pub fn stop(&self) {
        assert!(self.command("stop"), "PostgreSQL does not stop:\n{}", self.log());
    }

    /// Starts the server again on the same port.
    pub fn start_again(&self) {
        let started = self.command(&format!("start {}", self.port));
        assert!(started, "PostgreSQL does not start again:\n{}", self.log());
    }

    /// Kills every process of the server, as a power failure would: nothing more is written, and
    /// clients are not told.
    pub fn kill(&self) {
        assert!(self.command("kill"), "PostgreSQL cannot be killed:\n{}", self.log());
    }

    /// Promotes a standby to primary. Returns once it accepts writes.
    pub fn promote(&self) {
        assert!(self.command("promote"), "PostgreSQL is not promoted:\n{}", self.log());
    }

    /// Makes every later commit wait until a standby has received it.
    pub fn make_synchronous(&self) {
        assert!(
            self.command("synchronous"),
            "PostgreSQL does not reload:\n{}",
            self.log()
        );
    }

    /// Suspends every process of the server, so that it neither answers nor closes connections.
    pub fn pause(&self) {
        assert!(self.command("pause"), "PostgreSQL cannot be paused");
    }

    /// Resumes the processes after [`Self::pause`].
    pub fn resume(&self) {
        assert!(self.command("resume"), "PostgreSQL cannot be resumed");
    }

    fn command(&self, command: &str) -> bool {
        let mut supervisor = self.supervisor.lock();
        let commands = supervisor.commands.as_mut().expect("only drop takes it");
        writeln!(commands, "{command}").expect("the supervisor lives");
        let mut answer = String::new();
        supervisor.answers.read_line(&mut answer).expect("the supervisor lives");
        answer == "ok\n"
    }

    fn install(&self, identity: &ServerIdentity<'_>) {
        let owner = fs::metadata(&self.directory).expect("its metadata");
        for (name, text) in [("server.crt", identity.certificate), ("server.key", identity.key)] {
            let path = self.directory.join("data").join(name);
            fs::write(&path, text).expect("write a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set its mode");
            chown(&path, Some(owner.uid()), Some(owner.gid())).expect("set its owner");
        }
        let offered = self.command("tls");
        assert!(
            offered,
            "these programs of PostgreSQL were built without TLS: apt-get install -y postgresql"
        );
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let supervisor = self.supervisor.get_mut();
        drop(supervisor.commands.take());
        // Waiting only reaps the process; it ends by itself.
        let _ended = supervisor.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Returns the user and group ids of `postgres`, or else of `nobody`.
fn unprivileged_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map_while(|id| id.parse().ok());
        Some((ids.next()?, ids.next()?))
    };
    ids("postgres")
        .or_else(|| ids("nobody"))
        .expect("there is a user postgres or nobody")
}
