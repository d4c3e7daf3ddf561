//! Program under test, run as its users run it: a child process that inherits no settings. Tests
//! read its output and wait for its end.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use base::testing::rpc::channel;
use serde_json::Value;
use tokio::{sync::watch, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Timeout for everything that a test waits for. It is long, because only a failing test uses it
/// up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    process: Child,
    stdout: Output,
    stderr: Output,
}

/// Addresses on which a service listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Address of the gRPC port.
    pub grpc: SocketAddr,
    /// Address of the HTTP port.
    pub http: SocketAddr,
}

/// Result of a program that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code, or `None` if a signal ended the program.
    pub code: Option<i32>,
    /// Text that the program wrote to standard output.
    pub stdout: String,
    /// Text that the program wrote to standard error.
    pub stderr: String,
}

/// Signal that ends a program.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, as sent by Ctrl-C.
    Interrupt,
    /// SIGKILL.
    Kill,
}

/// Output of a program so far.
#[derive(Clone, Debug)]
struct Output(watch::Receiver<Written>);

#[derive(Debug, Default)]
struct Written {
    text: String,
    is_all: bool,
}

impl Program {
    /// Starts a program with an empty environment.
    pub fn start(executable: &str, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        Self::start_in(executable, arguments, &[])
    }

    /// Starts a program with this environment.
    pub fn start_in(
        executable: &str,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut process = Command::new(executable)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        Self {
            stdout: Output::of(process.stdout.take().expect("it is piped")),
            stderr: Output::of(process.stderr.take().expect("it is piped")),
            process,
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the addresses on which a service listens. The service logs them in JSON once it has
    /// its ports.
    pub async fn addresses(&self) -> Addresses {
        let event = self.logged("starting").await;
        let address = |name: &str| event[name].as_str()?.parse().ok();
        Addresses {
            grpc: address("grpc").expect("the gRPC address"),
            http: address("http").expect("the HTTP address"),
        }
    }

    /// Waits for the first event with this message in the JSON log, and returns it.
    pub async fn logged(&self, message: &str) -> Value {
        let event = |line: &str| {
            serde_json::from_str::<Value>(line)
                .ok()
                .filter(|event| event["message"] == message)
        };
        self.stderr.find(message, |text| text.lines().find_map(event)).await
    }

    /// Waits for the first event in the JSON log whose message contains these words, and returns
    /// it.
    pub async fn logged_containing(&self, words: &str) -> Value {
        let event = |line: &str| {
            let event = serde_json::from_str::<Value>(line).ok()?;
            event["message"].as_str()?.contains(words).then_some(event)
        };
        self.stderr.find(words, |text| text.lines().find_map(event)).await
    }

    /// Counts the lines of the log so far that contain all of these words.
    pub fn times_logged(&self, words: &[&str]) -> usize {
        let written = self.stderr.0.borrow();
        let lines = written.text.lines();
        lines
            .filter(|line| words.iter().all(|words| line.contains(words)))
            .count()
    }

    /// Waits until standard output contains these words, and returns everything printed so far.
    pub async fn printed(&self, words: &str) -> String {
        let whole = |text: &str| text.contains(words).then(|| text.to_owned());
        self.stdout.find(words, whole).await
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Kill => "KILL",
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &self.process.id().to_string()]);
        assert!(shell.status().expect("run sh").success(), "kill -s {name}");
    }

    /// Waits until the program has ended.
    pub async fn ended(self) -> Ended {
        self.ended_within(PATIENCE).await
    }

    /// Waits until the program has ended. Panics if it has not ended within this time.
    pub async fn ended_within(mut self, limit: Duration) -> Ended {
        let output = async { (self.stdout.all().await, self.stderr.all().await) };
        let Ok((stdout, stderr)) = timeout(limit, output).await else {
            panic!("it runs on after {limit:?}:\n{}", self.stderr.0.borrow().text);
        };
        // The program closes its output by ending.
        let code = self.process.wait().expect("its exit code").code();
        Ended { code, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // If the program has already ended, there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    /// Returns the one line in which a program that ended with this code explained its error.
    /// Panics if the program wrote anything else.
    pub fn only_line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self
            .stderr
            .strip_prefix("error: ")
            .and_then(|line| line.strip_suffix('\n'));
        let line = line.unwrap_or_else(|| panic!("no error: {self:?}"));
        assert!(!line.contains('\n'), "several lines: {self:?}");
        line
    }

    /// Returns the line in which the program said which setting is wrong. Usage information may
    /// follow that line.
    pub fn bad_setting(&self) -> &str {
        assert_eq!(self.code, Some(64), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.lines().next().and_then(|line| line.strip_prefix("error: "));
        line.unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

impl Ended {
    /// Asserts that this is a good answer to `--help`: every option is listed with the environment
    /// variable that also sets it.
    pub fn documents_every_option(&self) {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        // An option may have a line of its own, and its text may have several paragraphs.
        let options: Vec<&str> = self.stdout.split("\n      --").skip(1).collect();
        assert!(options.len() >= 5, "{}", self.stdout);
        for option in options {
            assert!(option.contains("[env: "), "--{option}");
        }
    }
}

impl Output {
    fn of(from: impl Read + Send + 'static) -> Self {
        let (written, output) = watch::channel(Written::default());
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                written.send_modify(|written| {
                    written.text.push_str(&line);
                    written.text.push('\n');
                });
            }
            written.send_modify(|written| written.is_all = true);
        });
        Self(output)
    }

    async fn all(&self) -> String {
        let mut output = self.0.clone();
        let all = output.wait_for(|written| written.is_all).await;
        all.expect("the reader says when it has read everything").text.clone()
    }

    async fn find<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut output = self.0.clone();
        let mut found = None;
        let search = output.wait_for(|written| {
            found = find(&written.text);
            found.is_some() || written.is_all
        });
        let waited = timeout(PATIENCE, search).await.map(drop);
        found.unwrap_or_else(|| panic!("no {what:?} ({waited:?}) in:\n{}", self.0.borrow().text))
    }
}

/// Waits until the health of the whole server is SERVING.
pub async fn serving(grpc: SocketAddr) {
    health_is(grpc, ServingStatus::Serving).await;
}

/// Waits until the health of the whole server is NOT_SERVING.
pub async fn not_serving(grpc: SocketAddr) {
    health_is(grpc, ServingStatus::NotServing).await;
}

async fn health_is(grpc: SocketAddr, status: ServingStatus) {
    let follow = async {
        let mut client = HealthClient::new(channel(grpc));
        let answer = client.watch(HealthCheckRequest::default()).await.expect("health");
        let mut changes = answer.into_inner();
        while let Some(change) = changes.message().await.expect("health") {
            if change.status() == status {
                return;
            }
        }
        panic!("the server ended before its health was {status:?}");
    };
    timeout(PATIENCE, follow)
        .await
        .unwrap_or_else(|_| panic!("not {status:?} in time"));
}

/// Requests this path and returns the status and the body.
pub async fn get(http: SocketAddr, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
    let answer = client.expect("a client").get(format!("http://{http}{path}")).send();
    let answer = answer.await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}
