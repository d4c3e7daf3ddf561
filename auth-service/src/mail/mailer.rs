//! Sends mails by SMTP, or writes them to a folder.

use std::{
    fmt,
    fs::{self, DirBuilder},
    io,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use base::error::with_causes;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    address::AddressError,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;
use url::Url;

use super::templates::{Contents, Rendered, Templates};
use crate::model::OutboxMail;

/// Maximum length of a line of a message, in bytes (RFC 5322, section 2.1.1).
const MAX_LINE_BYTES: usize = 998;
/// Prefix of a file that is not completely written yet.
const UNFINISHED: &str = ".auth-mail-";

/// Reason why a mail could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailError {
    /// A template failed.
    #[error("a template failed: {0}")]
    Template(String),
    /// The address cannot be mailed to.
    #[error("the recipient's address cannot be used: {0}")]
    Address(#[from] AddressError),
    /// The message could not be built.
    #[error("the message cannot be built: {0}")]
    Message(String),
    /// The mail server did not answer in time.
    #[error("the mail server did not answer in time")]
    TimedOut,
    /// The mail server could not be reached or refused the mail.
    #[error("{}", smtp_failure(.0))]
    Smtp(#[from] lettre::transport::smtp::Error),
    /// The file could not be written.
    #[error("the file cannot be written: {0}")]
    File(#[from] io::Error),
}

/// How mails leave.
pub(crate) enum Transport {
    /// A mail server takes them.
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    /// Each is written to this folder, as `<time>-<id>.eml`.
    Folder(PathBuf),
}

impl Transport {
    /// Prepares a folder for mails: creates it if it does not exist, and deletes the files that a
    /// process which was killed left unfinished. Fails if nothing can be written there.
    pub(crate) fn folder(path: PathBuf) -> io::Result<Self> {
        create_folder(&path)?;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) || !entry.file_type()?.is_file() {
                continue;
            }
            // Another process may be writing it. If so, it writes the mail again later.
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // The mode of the folder alone does not tell, for example on a read-only file system.
        NamedTempFile::with_prefix_in(UNFINISHED, &path)?;
        Ok(Self::Folder(path))
    }
}

/// Sends mails.
#[derive(Debug)]
pub(crate) struct Mailer {
    pub(crate) templates: Templates,
    pub(crate) transport: Transport,
    /// Sender of the mails.
    pub(crate) from: Mailbox,
    /// URL of the page that the links in mails open.
    pub(crate) public_url: Url,
}

impl Mailer {
    /// Returns a link to the page, with an action and what it needs. All of it stands in the
    /// fragment, which browsers do not send to a server.
    pub(crate) fn link(&self, action: &str, values: &[(&str, &str)], code: &SecretString) -> SecretString {
        let mut url = self.public_url.clone();
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(values)
            .append_pair("code", code.expose_secret())
            .finish();
        url.set_fragment(Some(&format!("{action}?{query}")));
        SecretString::from(String::from(url))
    }

    /// Returns whether a mail to this address can arrive anywhere. No mail server knows the host
    /// `localhost` of the first administrator's address.
    pub(crate) fn reaches(&self, address: &str) -> bool {
        match self.transport {
            Transport::Smtp(_) => !address.ends_with("@localhost"),
            Transport::Folder(_) => true,
        }
    }

    /// Makes one attempt to send a mail.
    pub(crate) async fn send(&self, mail: &OutboxMail, contents: &Contents) -> Result<(), MailError> {
        let rendered = self.templates.render(&mail.locale, mail.kind, contents);
        let rendered = rendered.map_err(MailError::Template)?;
        match &self.transport {
            Transport::Smtp(smtp) => {
                let message = self.message(mail, rendered, Body::new)?;
                smtp.send(message).await?;
            }
            Transport::Folder(folder) => {
                let message = self.message(mail, rendered, legible)?;
                let time = prost_types::Timestamp::from(mail.create_time)
                    .to_string()
                    .replace(':', "-");
                write(folder, &format!("{time}-{}.eml", mail.id), &message.formatted())?;
            }
        }
        Ok(())
    }

    fn message(&self, mail: &OutboxMail, rendered: Rendered, body: fn(String) -> Body) -> Result<Message, MailError> {
        // No name stands beside the address, so no name of a user can change a header.
        let recipient = Mailbox::new(None, mail.recipient.parse::<Address>()?);
        let part =
            |content_type: ContentType, text: String| SinglePart::builder().header(content_type).body(body(text));
        let message = Message::builder()
            .from(self.from.clone())
            .to(recipient)
            .subject(rendered.subject)
            // The same at each attempt, so that a mail server or program recognizes a duplicate.
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .date(mail.create_time.into())
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(
                MultiPart::alternative()
                    .singlepart(part(ContentType::TEXT_PLAIN, rendered.text))
                    .singlepart(part(ContentType::TEXT_HTML, rendered.html)),
            );
        message.map_err(|error| MailError::Message(error.to_string()))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The transport holds the password.
            Self::Smtp(_) => f.write_str("Smtp(..)"),
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
        }
    }
}

/// Encodes a text in eight bits, so that people can read it in a file. A text with lines that are
/// too long for that is encoded as for a mail server.
fn legible(text: String) -> Body {
    let is_plain = text.lines().all(|line| line.len() <= MAX_LINE_BYTES) && !text.contains('\0');
    if is_plain {
        let lines = text.lines().flat_map(|line| [line, "\r\n"]).collect::<String>();
        Body::dangerous_pre_encoded(lines.into_bytes(), ContentTransferEncoding::EightBit)
    } else {
        Body::new(text)
    }
}

/// Writes a file that only its owner can read, either completely or not at all.
fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    // The folder may have been deleted since the start.
    create_folder(folder)?;
    let mut temporary = NamedTempFile::with_prefix_in(UNFINISHED, folder)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(folder.join(name)).map_err(|error| error.error)?;
    Ok(())
}

/// Creates the folder if it does not exist. Mails hold codes, so only the user of the service can
/// read it.
fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Says why a mail server did not take a mail. Its own words are left out, because they may quote
/// the mail, and with it the code.
fn smtp_failure(error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server answered {code}"),
        None if error.is_response() => "the answer of the mail server cannot be read".to_owned(),
        None => with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_is_created_for_its_owner_alone() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("a/b");
        for _ in 0..2 {
            Transport::folder(path.clone()).expect("a folder");
        }
        let mode = fs::metadata(&path).expect("it").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(fs::read_dir(&path).expect("it").count(), 0);
    }

    #[test]
    fn only_unfinished_files_are_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = [
            ".auth-mail-AbC123",
            "2026-11-21T00-00-00Z-1.eml",
            ".hidden",
            ".tmpAbC123",
        ];
        for name in names {
            fs::write(folder.path().join(name), "x").expect("written");
        }
        fs::create_dir(folder.path().join(".auth-mail-")).expect("made");
        Transport::folder(folder.path().to_owned()).expect("a folder");
        for name in names {
            assert_eq!(folder.path().join(name).exists(), name != ".auth-mail-AbC123", "{name}");
        }
        assert!(folder.path().join(".auth-mail-").exists());
    }

    #[test]
    fn a_path_to_which_nothing_can_be_written_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "x").expect("written");
        for path in [file.clone(), file.join("mails"), PathBuf::from("/proc/mails")] {
            Transport::folder(path.clone()).expect_err(&path.display().to_string());
        }
    }
}
