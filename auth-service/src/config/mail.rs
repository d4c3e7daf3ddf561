//! Settings of the mails to users.

use std::{fmt::Display, path::PathBuf};

use base::StartError;
use lettre::{AsyncSmtpTransport, Tokio1Executor, message::Mailbox};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use super::{cookies::is_loopback, password_file::read_password};
use crate::mail::{Mailer, Templates, Transport};

/// Sender of mails that are only written to a folder.
const LOCAL_SENDER: &str = "no-reply@localhost";

/// The mail server and the mails.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Mail")]
pub struct MailSettings {
    /// Mail server that takes mails to users, such as `smtps://user@smtp.example.com`. `smtps://`
    /// uses TLS from the start, by default on port 465. `smtp://` with `?tls=required` begins with
    /// STARTTLS, by default on port 587; without it, nothing is encrypted, by default on port 25.
    /// Needs --mail-from. Without a mail server or --mail-folder, users cannot reset a forgotten
    /// password.
    #[arg(
        long,
        env = "SMTP_URL",
        value_name = "URL",
        hide_env_values = true,
        requires = "mail_from"
    )]
    pub smtp_url: Option<SecretString>,
    /// File with the password for the mail server.
    #[arg(long, env = "SMTP_PASSWORD_FILE", value_name = "FILE", requires = "smtp_url")]
    pub smtp_password_file: Option<PathBuf>,
    /// Folder to which mails are written as .eml files, instead of being sent. Created if it does
    /// not exist. Meant for trying things out [default of the standalone without --smtp-url: the
    /// folder `mail` in --data-dir]
    #[arg(long, env = "MAIL_FOLDER", value_name = "FOLDER", conflicts_with = "smtp_url")]
    pub mail_folder: Option<PathBuf>,
    /// Sender of the mails, such as `My Game <no-reply@example.com>`.
    #[arg(long, env = "MAIL_FROM", value_name = "ADDRESS", value_parser = sender)]
    pub mail_from: Option<Mailbox>,
    /// URL of the web page that links in mails open [default: --gateway-url]
    #[arg(long, env = "PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub public_url: Option<Url>,
    /// Folder with templates that replace those of the program, and with further languages:
    /// `<language>/<kind>.txt`, whose first line is the subject, and `<language>/<kind>.html`. The
    /// kinds are password_reset, administrator_reset, invitation, email_verification, email_change,
    /// password_changed, login_changed, email_changed, email_reverted, device_login,
    /// refresh_token_reused, factor_enrolment, second_factor_added, second_factor_removed and
    /// recovery_codes_renewed.
    #[arg(long, env = "MAIL_TEMPLATES", value_name = "FOLDER")]
    pub mail_templates: Option<PathBuf>,
    /// Whether users must verify their e-mail address before they log in. A new user who has not
    /// done so within 24 hours loses the address to the first other user who verifies it. Users who
    /// registered before this was set have 30 days, are reminded by mail, and keep their address.
    /// Set the same value for all replicas. Needs --smtp-url or --mail-folder.
    #[arg(long, env = "REQUIRE_VERIFIED_EMAIL", default_value_t = false, value_name = "BOOL")]
    #[arg(action = clap::ArgAction::Set, default_missing_value = "true", num_args = 0..=1)]
    pub require_verified_email: bool,
}

impl MailSettings {
    /// Returns the name under which users know the deployment: the host of its page.
    pub(crate) fn site(&self, gateway: &Url) -> String {
        let public_url = self.public_url.as_ref().unwrap_or(gateway);
        public_url.host_str().unwrap_or("localhost").to_owned()
    }

    /// Returns what sends the mails: the mail server, or else the folder. Returns `None` if there
    /// is neither.
    pub(crate) fn mailer(&self, gateway: &Url) -> Result<Option<Mailer>, StartError> {
        let public_url = self.public_url.as_ref().unwrap_or(gateway).clone();
        let site = self.site(gateway);
        // Mistakes in the templates are reported even if no mail can be sent.
        let templates = Templates::read(self.mail_templates.as_deref(), &site)?;
        let transport = match (&self.smtp_url, &self.mail_folder) {
            (Some(url), _) => Transport::Smtp(Box::new(self.smtp(url.expose_secret())?)),
            (None, Some(folder)) => Transport::folder(folder.clone()).map_err(|error| {
                StartError::Setting(format!(
                    "--mail-folder {}: must be a folder in which the service can write: {error}",
                    folder.display()
                ))
            })?,
            (None, None) => return Ok(None),
        };
        let from = match &self.mail_from {
            Some(from) => from.clone(),
            None => LOCAL_SENDER.parse().map_err(StartError::failed)?,
        };
        Ok(Some(Mailer {
            templates,
            transport,
            from,
            public_url,
        }))
    }

    fn smtp(&self, url: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>, StartError> {
        // The text is not quoted, because a password may be in it by mistake.
        let bad = |error: &dyn Display| StartError::Setting(format!("--smtp-url {error}"));
        let url = smtp_url(url).map_err(|error| bad(&error))?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str()).map_err(|error| bad(&error))?;
        let Some(path) = &self.smtp_password_file else {
            if !url.username().is_empty() {
                return Err(bad(&"has a user, whose password must be in --smtp-password-file"));
            }
            return Ok(builder.build());
        };
        let bad_file =
            |error: &dyn Display| StartError::Setting(format!("--smtp-password-file {}: {error}", path.display()));
        let user = url.username();
        if user.is_empty() {
            return Err(bad(
                &"needs a user if there is a --smtp-password-file: smtps://user@smtp.example.com",
            ));
        }
        if !is_encrypted(&url) && !is_loopback(&url) {
            return Err(bad(
                &"would send the password without encryption: use smtps:// or ?tls=required",
            ));
        }
        let user = percent_encoding::percent_decode_str(user).decode_utf8_lossy();
        let password = read_password(path).map_err(|error| bad_file(&error))?;
        if password.expose_secret().is_empty() {
            return Err(bad_file(&"it is empty"));
        }
        let credentials = (user.into_owned(), password.expose_secret().to_owned()).into();
        Ok(builder.credentials(credentials).build())
    }
}

fn smtp_url(text: &str) -> Result<Url, String> {
    const BAD: &str = "must be such as smtps://user@smtp.example.com or smtp://smtp.example.com:587?tls=required";
    let url = Url::parse(text).map_err(|_| BAD)?;
    let tls: Vec<_> = url.query_pairs().collect();
    let is_known = match (url.scheme(), tls.as_slice()) {
        ("smtp" | "smtps", []) => true,
        ("smtp", [(key, value)]) => key == "tls" && ["required", "opportunistic"].contains(&value.as_ref()),
        _ => false,
    };
    // The library would look an IPv6 address up as a name.
    let is_name = matches!(url.host(), Some(Host::Domain(name)) if !name.is_empty());
    if !is_known || !is_name || url.fragment().is_some() {
        return Err(BAD.to_owned());
    }
    if url.password().is_some() {
        return Err("must not have a password; put it into --smtp-password-file".to_owned());
    }
    Ok(url)
}

/// Returns whether nothing is sent to the mail server before the connection is encrypted.
fn is_encrypted(url: &Url) -> bool {
    url.scheme() == "smtps" || url.query() == Some("tls=required")
}

fn sender(text: &str) -> Result<Mailbox, String> {
    text.parse()
        .map_err(|_| "must be an e-mail address, or a name and an address: My Game <no-reply@example.com>".to_owned())
}

fn public_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.filter(|url| url.fragment().is_none() && url.host().is_some());
    url.ok_or_else(|| {
        "must be an http:// or https:// URL without a fragment, such as https://play.example.com".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_is_named_by_a_url_without_a_password() {
        for good in [
            "smtp://localhost",
            "smtp://localhost:1025",
            "smtps://ann@smtp.example.com",
            "smtp://ann%40example.com@smtp.example.com:587?tls=required",
            "smtp://127.0.0.1:25?tls=opportunistic",
        ] {
            assert!(smtp_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:25",
            "http://localhost",
            "smtp://",
            "smtp://localhost?tls=maybe",
            "smtp://[::1]:25",
            "smtps://localhost?tls=required",
            "smtp://localhost?tls=required&tls=required",
            "smtps://ann:secret@localhost",
        ] {
            let error = smtp_url(bad).expect_err(bad);
            assert!(!error.contains("secret@"), "{error}");
        }
    }

    #[test]
    fn a_password_is_sent_only_encrypted_or_within_this_machine() {
        let is_safe = |text: &str| smtp_url(text).is_ok_and(|url| is_encrypted(&url) || is_loopback(&url));
        for (url, safe) in [
            ("smtps://ann@smtp.example.com", true),
            ("smtp://ann@smtp.example.com?tls=required", true),
            ("smtp://ann@localhost", true),
            ("smtp://ann@127.0.0.1:1025", true),
            ("smtp://ann@smtp.example.com?tls=opportunistic", false),
            ("smtp://ann@smtp.example.com", false),
            ("smtp://ann@192.0.2.1", false),
        ] {
            assert_eq!(is_safe(url), safe, "{url}");
        }
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        for good in ["no-reply@example.com", "My Game <no-reply@example.com>"] {
            assert!(sender(good).is_ok(), "{good}");
        }
        for bad in ["", "My Game", "a@b\r\nBcc: c@d", "a@b, c@d"] {
            assert!(sender(bad).is_err(), "{bad:?}");
        }
    }
}
