//! Mails to users, read as files from the folder to which the service writes them.

mod guests;
mod outbox;
mod reset;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proto::auth::v1::{
    LoginResponse, RequestPasswordResetRequest, ResetPasswordRequest, ResetPasswordResponse,
    auth_service_client::AuthServiceClient,
};
use tempfile::TempDir;
use testing::TestDatabase;
use tonic::{Status, transport::Channel};

use crate::support::{Server, callers::eventually, credentials, settings};

/// Password that the tests set.
const NEW: &str = "another horse";

/// A server that writes its mails to a folder.
struct MailServer {
    server: Server,
    folder: TempDir,
    arguments: Vec<String>,
}

/// A mail, as a user sees it.
#[derive(Clone, Debug)]
struct Mail {
    path: PathBuf,
    text: String,
}

impl MailServer {
    async fn start(database: TestDatabase) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = vec!["--mail-folder".to_owned(), folder.path().display().to_string()];
        let server = Server::start_with(database, &settings_of(&arguments)).await;
        Self {
            server,
            folder,
            arguments,
        }
    }

    /// Starts a second replica.
    async fn replica(&self) -> AuthServiceClient<Channel> {
        self.server.replica_ahead(0, &settings_of(&self.arguments)).await.1
    }

    /// Waits until there are this many mails, and returns them. Several are sent at the same time,
    /// so only those that were waited for one after the other are in order.
    async fn mails(&self, count: usize) -> Vec<Mail> {
        becomes_true(async || read(self.folder.path()).len() >= count).await;
        let mails = read(self.folder.path());
        assert_eq!(mails.len(), count, "{mails:?}");
        mails
    }

    /// Asks for a code and returns the mail with it. `earlier` is the number of mails so far.
    async fn request(&self, identifier: &str, earlier: usize) -> Mail {
        let known: Vec<PathBuf> = self.mails(earlier).await.into_iter().map(|mail| mail.path).collect();
        request_reset(&mut self.server.auth(), identifier).await.expect("asked");
        let mut mails = self.mails(earlier + 1).await;
        mails.retain(|mail| !known.contains(&mail.path));
        mails.remove(0)
    }

    /// Waits until all requests so far have been answered. The job answers them in their order, so
    /// it is done with them once it has answered one more, by a user of its own.
    async fn answered(&self, marker: &str, earlier: usize) -> Vec<Mail> {
        self.server.register(marker).await;
        request_reset(&mut self.server.auth(), marker).await.expect("asked");
        let mut mails = self.mails(earlier + 1).await;
        mails.retain(|mail| mail.recipient() != format!("{marker}@example.test"));
        mails
    }
}

impl Mail {
    fn header(&self, name: &str) -> String {
        let headers = self.text.split("\r\n\r\n").next().expect("headers");
        let line = headers.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {headers}")).to_owned()
    }

    fn recipient(&self) -> String {
        self.header("To")
    }

    /// Returns the code to type.
    fn code(&self) -> String {
        let is_code = |line: &&str| line.len() == 9 && line.as_bytes()[4] == b'-';
        let code = self.text.lines().map(str::trim).find(is_code);
        code.unwrap_or_else(|| panic!("no code in {}", self.text)).to_owned()
    }

    /// Returns what the link holds: the action, and the values by their names.
    fn link(&self) -> (String, BTreeMap<String, String>) {
        let link = self.text.lines().find(|line| line.starts_with("http")).expect("a link");
        let (_, fragment) = link.trim().split_once('#').expect("a fragment");
        let (action, query) = fragment.split_once('?').expect("a query");
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (action.to_owned(), values.collect())
    }
}

/// Waits until the condition holds.
async fn becomes_true(condition: impl AsyncFn() -> bool) {
    eventually(async || condition().await.then_some(())).await;
}

fn settings_of(arguments: &[String]) -> auth_service::config::AuthSettings {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    settings(&arguments)
}

/// Returns all mails, the oldest first.
fn read(folder: &Path) -> Vec<Mail> {
    let entries = fs::read_dir(folder).expect("the folder");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .collect();
    paths.sort_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).expect("its time"));
    let read = |path: PathBuf| Mail {
        text: fs::read_to_string(&path).expect("a mail"),
        path,
    };
    paths.into_iter().map(read).collect()
}

async fn request_reset(client: &mut AuthServiceClient<Channel>, identifier: &str) -> Result<(), Status> {
    request_reset_from(client, identifier, "").await
}

async fn request_reset_from(
    client: &mut AuthServiceClient<Channel>,
    identifier: &str,
    device_token: &str,
) -> Result<(), Status> {
    let request = RequestPasswordResetRequest {
        identifier: identifier.to_owned(),
        device_token: device_token.to_owned(),
    };
    client.request_password_reset(request).await.map(|_| ())
}

async fn reset(
    client: &mut AuthServiceClient<Channel>,
    identifier: &str,
    code: &str,
    password: &str,
) -> Result<ResetPasswordResponse, Status> {
    let request = ResetPasswordRequest {
        identifier: identifier.to_owned(),
        code: code.to_owned(),
        new_password: password.to_owned(),
        new_password_confirmation: password.to_owned(),
        ..ResetPasswordRequest::default()
    };
    Ok(client.reset_password(request).await?.into_inner())
}

async fn login(server: &Server, identifier: &str, password: &str) -> Result<LoginResponse, Status> {
    Ok(server
        .auth()
        .login(credentials(identifier, password))
        .await?
        .into_inner())
}
