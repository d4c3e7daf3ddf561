//! Mails to users, read as files from the folder to which the service writes them.

mod change;
mod factors;
mod guests;
mod invitations;
mod notices;
mod outbox;
mod requirement;
mod reset;
mod verification;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::auth::v1::{
    ChangeEmailRequest, ConfirmEmailChangeRequest, LoginResponse, RegisterResponse, RequestPasswordResetRequest,
    ResetPasswordRequest, ResetPasswordResponse, User, VerifyEmailRequest, auth_service_client::AuthServiceClient,
};
use tempfile::TempDir;
use testing::{TestDatabase, rpc::with_token};
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
        Self::start_with(database, &[]).await
    }

    async fn start_with(database: TestDatabase, further: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut arguments = vec!["--mail-folder".to_owned(), folder.path().display().to_string()];
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
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

    /// Waits until there are this many mails besides those about e-mail addresses, and returns
    /// them. Several are sent at the same time, so only those that were waited for one after the
    /// other are in order.
    async fn mails(&self, count: usize) -> Vec<Mail> {
        self.wait(count, |mail| !mail.is_about_email()).await
    }

    /// Waits until there are this many mails about the e-mail address of a user at this address,
    /// and returns the last.
    async fn about_email(&self, address: &str, count: usize) -> Mail {
        let is_wanted = |mail: &Mail| mail.is_about_email() && mail.recipient() == address;
        self.wait(count, is_wanted).await.pop().expect("a mail")
    }

    /// Waits until there are this many mails to the address with a link to this action, and returns
    /// the last.
    async fn with_link(&self, address: &str, action: &str, count: usize) -> Mail {
        let link = format!("#{action}?");
        let is_wanted = |mail: &Mail| mail.text.contains(&link) && mail.recipient() == address;
        self.wait(count, is_wanted).await.pop().expect("a mail")
    }

    /// Registers a user so long ago that the mail of the registration no longer counts for the
    /// limits.
    async fn register_earlier(&self, login: &str) -> RegisterResponse {
        let registered = self.server.register(login).await;
        self.server.clock.advance(Duration::from_secs(3601));
        registered
    }

    /// Registers a user and verifies their address. Returns the access token.
    async fn register_verified(&self, login: &str) -> String {
        let token = self.server.register(login).await.tokens.expect("tokens").access_token;
        let mail = self.about_email(&format!("{login}@example.test"), 1).await;
        verify(&self.server, &token, &mail.code()).await.expect("verified");
        token
    }

    async fn wait(&self, count: usize, is_wanted: impl Fn(&Mail) -> bool) -> Vec<Mail> {
        let wanted = || {
            let mut mails = read(self.folder.path());
            mails.retain(&is_wanted);
            mails
        };
        becomes_true(async || wanted().len() >= count).await;
        let mails = wanted();
        assert_eq!(mails.len(), count, "{mails:?}");
        mails
    }

    /// Waits until the user with this login has got this many mails, besides those about the e-mail
    /// address, and returns them, the oldest first.
    async fn to(&self, login: &str, count: usize) -> Vec<Mail> {
        becomes_true(async || to(login, read(self.folder.path())).len() >= count).await;
        let mails = to(login, read(self.folder.path()));
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

    /// Returns whether the mail is about the user's e-mail address.
    fn is_about_email(&self) -> bool {
        let has = |part: &str| self.text.contains(part);
        has("#verify-email?") || has("#confirm-email?") || self.header("Subject").contains("e-mail address")
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
        let values = url::form_urlencoded::parse(query.as_bytes());
        (action.to_owned(), values.into_owned().collect())
    }
}

/// Returns the mails to the user with this login, besides those about the e-mail address.
fn to(login: &str, mails: Vec<Mail>) -> Vec<Mail> {
    let recipient = format!("{login}@example.test");
    let is_wanted = |mail: &Mail| mail.recipient() == recipient && !mail.is_about_email();
    mails.into_iter().filter(is_wanted).collect()
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

/// Verifies the address of the bearer of the token.
async fn verify(server: &Server, token: &str, code: &str) -> Result<User, Status> {
    let request = VerifyEmailRequest {
        code: code.to_owned(),
        ..VerifyEmailRequest::default()
    };
    let verified = server.account().verify_email(with_token(request, token)).await?;
    Ok(verified.into_inner().user.expect("a user"))
}

/// Asks for another address of the bearer of the token.
async fn change_email(server: &Server, token: &str, email: &str, password: &str) -> Result<(), Status> {
    let request = ChangeEmailRequest {
        email: email.to_owned(),
        current_password: password.to_owned(),
        ..ChangeEmailRequest::default()
    };
    server
        .account()
        .change_email(with_token(request, token))
        .await
        .map(|_| ())
}

/// Confirms another address of the bearer of the token.
async fn confirm(server: &Server, token: &str, code: &str) -> Result<User, Status> {
    let request = ConfirmEmailChangeRequest {
        code: code.to_owned(),
        ..ConfirmEmailChangeRequest::default()
    };
    let confirmed = server
        .account()
        .confirm_email_change(with_token(request, token))
        .await?;
    Ok(confirmed.into_inner().user.expect("a user"))
}

async fn login(server: &Server, identifier: &str, password: &str) -> Result<LoginResponse, Status> {
    Ok(server
        .auth()
        .login(credentials(identifier, password))
        .await?
        .into_inner())
}
