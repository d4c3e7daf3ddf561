//! A PostgreSQL for tests: the one that `TEST_POSTGRES_URL` names, else a throw-away cluster, once
//! per test process, made with the programs that are installed or fetched. The one that is named
//! must let its user make databases; a few tests need a superuser.
//!
//! Nothing tears down after `cargo test`, so a supervisor does: a shell whose standard input is a
//! pipe from this process. When the pipe closes, in whatever way this process ended, it stops the
//! server and removes the directory.

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

/// Takes commands, one a line, and answers each with one line.
const SUPERVISOR: &str = include_str!("postgres-supervisor.sh");

/// Durability is for data that somebody wants to keep.
const THROW_AWAY: &str = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off";

/// Commits wait for the standby where there is one that they must wait for, but not for the disk.
const REPLICATED: &str = "-c fsync=off -c full_page_writes=off -c wal_receiver_status_interval=1s";

/// Used up only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Another process may take the port between its choice and the server's start.
const PORT_ATTEMPTS: usize = 5;

/// A private PostgreSQL that ends with this process, or when it is dropped.
pub struct Cluster {
    port: u16,
    directory: PathBuf,
    supervisor: Mutex<Supervisor>,
}

struct Supervisor {
    process: Child,
    /// `None` once it shall end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The certificate and key, in PEM, of a server that offers TLS.
pub struct ServerIdentity<'a> {
    /// The certificate chain.
    pub certificate: &'a str,
    /// Its private key.
    pub key: &'a str,
}

/// The URL of a database on the PostgreSQL that all tests of this process share.
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
    /// Starts a cluster. It has the superuser `postgres`, who needs no password.
    pub fn start(identity: Option<&ServerIdentity<'_>>) -> Self {
        Self::start_with(identity, THROW_AWAY)
    }

    /// Starts a cluster that writes as one does whose data somebody wants to keep: for what is
    /// measured.
    pub fn start_durable() -> Self {
        Self::start_with(None, "")
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

    /// Makes a directory for a cluster, and the supervisor that removes it again.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database.
    pub async fn create_database(&self, name: &str) {
        let settings = DatabaseSettings::new(self.url("postgres").parse().expect("a URL"));
        let db = Db::connect(&settings).await.expect("a pool");
        let mut conn = db.read().await.expect("a connection");
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        query!(&mut conn, |c| c.batch_execute(&sql).await).expect("created");
    }

    /// Waits until this standby has a database.
    pub async fn has_database(&self, name: &str) {
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

    /// Ends the server, and every connection with it.
    pub fn stop(&self) {
        assert!(self.command("stop"), "PostgreSQL does not stop:\n{}", self.log());
    }

    /// Starts the server again on the port that it had.
    pub fn start_again(&self) {
        let started = self.command(&format!("start {}", self.port));
        assert!(started, "PostgreSQL does not start again:\n{}", self.log());
    }

    /// Ends every process of the server as a loss of power does: nothing more is written, and
    /// nobody is told.
    pub fn kill(&self) {
        assert!(self.command("kill"), "PostgreSQL cannot be killed:\n{}", self.log());
    }

    /// Makes a standby a primary. Returns when it takes writes.
    pub fn promote(&self) {
        assert!(self.command("promote"), "PostgreSQL is not promoted:\n{}", self.log());
    }

    /// Lets every commit from now on wait until a standby has it.
    pub fn make_synchronous(&self) {
        assert!(
            self.command("synchronous"),
            "PostgreSQL does not reload:\n{}",
            self.log()
        );
    }

    /// Lets every process of the server stand still, so that it neither answers nor hangs up.
    pub fn pause(&self) {
        assert!(self.command("pause"), "PostgreSQL cannot be paused");
    }

    /// Lets them go on.
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

    /// The log of the server.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let supervisor = self.supervisor.get_mut();
        drop(supervisor.commands.take());
        // It ends by itself, whether or not somebody waits for it.
        let _ended = supervisor.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The user and group of `postgres`, else of `nobody`.
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
