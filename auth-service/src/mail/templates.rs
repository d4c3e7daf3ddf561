//! The templates of mails.
//!
//! Each kind of mail has two templates in each language: `<language>/<kind>.txt`, whose first line
//! is the subject, and `<language>/<kind>.html`. Those of English and Russian are part of the
//! program. A folder can replace each of them and add languages. All are checked at the start, so
//! that no mail fails for a mistake in a template.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use base::{StartError, clock::Timestamp};
use fluent_langneg::LanguageIdentifier;
use minijinja::{Environment, UndefinedBehavior, context};
use secrecy::{ExposeSecret as _, SecretString};

use super::language;
use crate::model::MailKind;

/// Language of users whose own is not available.
const DEFAULT: &str = "en";
/// Maximum size of a template, in bytes.
const MAX_TEMPLATE_BYTES: u64 = 256 * 1024;

/// Names a template in the program, with its content.
macro_rules! built_in {
    ($name:literal) => {
        ($name, include_str!(concat!("../../mail/", $name)))
    };
}

/// The templates in the program, by name.
const BUILT_IN: &[(&str, &str)] = &[
    built_in!("en/password_reset.txt"),
    built_in!("en/password_reset.html"),
    built_in!("en/administrator_reset.txt"),
    built_in!("en/administrator_reset.html"),
    built_in!("en/invitation.txt"),
    built_in!("en/invitation.html"),
    built_in!("en/email_verification.txt"),
    built_in!("en/email_verification.html"),
    built_in!("en/email_change.txt"),
    built_in!("en/email_change.html"),
    built_in!("en/password_changed.txt"),
    built_in!("en/password_changed.html"),
    built_in!("en/login_changed.txt"),
    built_in!("en/login_changed.html"),
    built_in!("en/email_changed.txt"),
    built_in!("en/email_changed.html"),
    built_in!("en/email_reverted.txt"),
    built_in!("en/email_reverted.html"),
    built_in!("en/device_login.txt"),
    built_in!("en/device_login.html"),
    built_in!("en/refresh_token_reused.txt"),
    built_in!("en/refresh_token_reused.html"),
    built_in!("en/factor_enrolment.txt"),
    built_in!("en/factor_enrolment.html"),
    built_in!("en/second_factor_added.txt"),
    built_in!("en/second_factor_added.html"),
    built_in!("en/second_factor_removed.txt"),
    built_in!("en/second_factor_removed.html"),
    built_in!("en/recovery_codes_renewed.txt"),
    built_in!("en/recovery_codes_renewed.html"),
    built_in!("ru/password_reset.txt"),
    built_in!("ru/password_reset.html"),
    built_in!("ru/administrator_reset.txt"),
    built_in!("ru/administrator_reset.html"),
    built_in!("ru/invitation.txt"),
    built_in!("ru/invitation.html"),
    built_in!("ru/email_verification.txt"),
    built_in!("ru/email_verification.html"),
    built_in!("ru/email_change.txt"),
    built_in!("ru/email_change.html"),
    built_in!("ru/password_changed.txt"),
    built_in!("ru/password_changed.html"),
    built_in!("ru/login_changed.txt"),
    built_in!("ru/login_changed.html"),
    built_in!("ru/email_changed.txt"),
    built_in!("ru/email_changed.html"),
    built_in!("ru/email_reverted.txt"),
    built_in!("ru/email_reverted.html"),
    built_in!("ru/device_login.txt"),
    built_in!("ru/device_login.html"),
    built_in!("ru/refresh_token_reused.txt"),
    built_in!("ru/refresh_token_reused.html"),
    built_in!("ru/factor_enrolment.txt"),
    built_in!("ru/factor_enrolment.html"),
    built_in!("ru/second_factor_added.txt"),
    built_in!("ru/second_factor_added.html"),
    built_in!("ru/second_factor_removed.txt"),
    built_in!("ru/second_factor_removed.html"),
    built_in!("ru/recovery_codes_renewed.txt"),
    built_in!("ru/recovery_codes_renewed.html"),
];

/// Values that a template shows. Values that a kind of mail does not have are empty.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Code to type. `None` if it was tried too often.
    pub(crate) code: Option<SecretString>,
    /// Link to the page on which the user confirms.
    pub(crate) link: Option<SecretString>,
    /// Number of minutes for which the code or the link is valid.
    pub(crate) minutes: Option<u64>,
    /// Time of the event.
    pub(crate) time: Option<Timestamp>,
    /// IP address of the event; may be empty.
    pub(crate) ip_address: Option<String>,
    /// Login of an invited user.
    pub(crate) login: Option<String>,
    /// Login before a change.
    pub(crate) old_login: Option<String>,
    /// Login after a change.
    pub(crate) new_login: Option<String>,
    /// User agent of the device; may be empty.
    pub(crate) user_agent: Option<String>,
    /// Whether the present password no longer works.
    pub(crate) is_invalidated: bool,
    /// Whether an administrator made the change.
    pub(crate) is_by_administrator: bool,
}

/// A mail in one language.
pub(super) struct Rendered {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// The templates in all languages.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    /// Available languages, the default first.
    languages: Vec<LanguageIdentifier>,
    /// Name of the site in the templates.
    site: String,
}

impl Templates {
    /// Reads the templates of the program, and those in `folder`, which come first. `site` is the
    /// name under which users know the deployment.
    pub(crate) fn read(folder: Option<&Path>, site: &str) -> Result<Self, StartError> {
        let mut sources: BTreeMap<String, String> = BUILT_IN
            .iter()
            .map(|(name, source)| ((*name).to_owned(), (*source).to_owned()))
            .collect();
        if let Some(folder) = folder {
            let bad = |error: String| StartError::Setting(format!("--mail-templates {}: {error}", folder.display()));
            sources.extend(read_folder(folder).map_err(bad)?);
        }
        Self::new(sources, site).map_err(|error| StartError::Setting(format!("--mail-templates: {error}")))
    }

    fn new(sources: BTreeMap<String, String>, site: &str) -> Result<Self, String> {
        let mut tags = BTreeSet::new();
        let files = MailKind::ALL.map(names_of).concat();
        for name in sources.keys() {
            let (language, file) = name.split_once('/').unwrap_or_default();
            tags.insert(language.to_owned());
            if !files.iter().any(|known| known == file) {
                return Err(format!(
                    "{name} is not a template; the templates are {}",
                    files.join(", ")
                ));
            }
        }
        let mut languages = Vec::new();
        for tag in &tags {
            let parsed: LanguageIdentifier = tag
                .parse()
                .map_err(|_| format!("{tag} is not a BCP 47 language tag such as en or pt-BR"))?;
            if *tag != parsed.to_string() {
                return Err(format!("the folder {tag} must be named {parsed}"));
            }
            languages.push(parsed);
        }
        let names = tags
            .iter()
            .flat_map(|tag| files.iter().map(move |file| format!("{tag}/{file}")));
        let missing: Vec<String> = names.filter(|name| !sources.contains_key(name)).collect();
        if !missing.is_empty() {
            return Err(format!(
                "a further language needs a template of every kind; missing: {}",
                missing.join(", ")
            ));
        }
        languages.sort_by_key(|language| language.to_string() != DEFAULT);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut mistakes = Vec::new();
        for (name, source) in sources {
            if let Err(error) = environment.add_template_owned(name.clone(), source) {
                mistakes.push(format!("{name}: {error}"));
            }
        }
        let templates = Self {
            environment,
            languages,
            site: site.to_owned(),
        };
        if mistakes.is_empty() {
            mistakes = templates.mistakes();
        }
        if mistakes.is_empty() {
            Ok(templates)
        } else {
            Err(mistakes.join("; "))
        }
    }

    /// Renders each mail, with and without the values that it may lack. Returns the first mistake
    /// of each.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for language in &self.languages {
            for kind in MailKind::ALL {
                let sample = |is_full: bool, is_by_administrator: bool| Contents {
                    code: is_full.then(|| SecretString::from("ABCD-EFGH")),
                    // A notice of a change may lack the link.
                    link: (is_full || kind != MailKind::EmailChanged)
                        .then(|| SecretString::from("https://example.com/#reset-password?code=x")),
                    minutes: Some(10),
                    time: Some(Timestamp::from_micros(0)),
                    ip_address: is_full.then(|| "192.0.2.1".to_owned()),
                    login: Some("ann".to_owned()),
                    old_login: Some("ann".to_owned()),
                    new_login: Some("bob".to_owned()),
                    user_agent: is_full.then(|| "Firefox/120.0".to_owned()),
                    is_invalidated: is_full,
                    is_by_administrator,
                };
                let samples = [(true, false), (false, false), (true, true), (false, true)];
                let mut rendered = samples.iter().map(|(is_full, is_by_administrator)| {
                    self.render_in(language, kind, &sample(*is_full, *is_by_administrator))
                });
                mistakes.extend(rendered.find_map(Result::err));
            }
        }
        mistakes
    }

    /// Renders a mail in the available language that suits `locale` best.
    pub(super) fn render(&self, locale: &str, kind: MailKind, contents: &Contents) -> Result<Rendered, String> {
        let language = language::best(locale, &self.languages, &self.languages[0]);
        self.render_in(language, kind, contents)
    }

    fn render_in(
        &self,
        language: &LanguageIdentifier,
        kind: MailKind,
        contents: &Contents,
    ) -> Result<Rendered, String> {
        let exposed = |secret: &Option<SecretString>| {
            secret
                .as_ref()
                .map(|secret| secret.expose_secret().to_owned())
                .unwrap_or_default()
        };
        let context = context! {
            site => &self.site,
            code => exposed(&contents.code),
            link => exposed(&contents.link),
            minutes => contents.minutes.unwrap_or_default(),
            hours => contents.minutes.unwrap_or_default().div_ceil(60),
            days => contents.minutes.unwrap_or_default().div_ceil(24 * 60),
            time => contents.time.map(minute).unwrap_or_default(),
            ip_address => contents.ip_address.as_deref().unwrap_or_default(),
            login => contents.login.as_deref().unwrap_or_default(),
            old_login => contents.old_login.as_deref().unwrap_or_default(),
            new_login => contents.new_login.as_deref().unwrap_or_default(),
            user_agent => contents.user_agent.as_deref().unwrap_or_default(),
            is_invalidated => contents.is_invalidated,
            is_by_administrator => contents.is_by_administrator,
        };
        let render = |file: String| {
            let name = format!("{language}/{file}");
            let template = self.environment.get_template(&name);
            let rendered = template.and_then(|template| template.render(&context));
            rendered.map_err(|error| format!("{name}: {error}"))
        };
        let [text_file, html_file] = names_of(kind);
        let text = render(text_file)?;
        let (subject, text) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = subject.trim();
        if subject.is_empty() || subject.chars().any(char::is_control) {
            return Err(format!(
                "{language}/{}.txt: the first line must be the subject",
                kind.as_str()
            ));
        }
        Ok(Rendered {
            subject: subject.to_owned(),
            text: text.trim_start().to_owned(),
            html: render(html_file)?,
        })
    }
}

/// Returns the names of the files of this kind of mail.
fn names_of(kind: MailKind) -> [String; 2] {
    ["txt", "html"].map(|extension| format!("{}.{extension}", kind.as_str()))
}

/// Returns the time to the minute, in UTC.
fn minute(time: Timestamp) -> String {
    let text = prost_types::Timestamp::from(time).to_string();
    let minute = text.get(..16).unwrap_or(&text).replace('T', " ");
    format!("{minute} UTC")
}

/// Reads all templates in the folder, by name.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut sources = BTreeMap::new();
    for language in entries(folder)? {
        let path = folder.join(&language);
        if !path.is_dir() {
            return Err(format!("{language} is not a folder named by a language, such as en"));
        }
        for file in entries(&path)? {
            let name = format!("{language}/{file}");
            let read = || {
                let path = path.join(&file);
                if fs::metadata(&path)?.len() > MAX_TEMPLATE_BYTES {
                    return Err(std::io::Error::other("it is larger than 256 KiB"));
                }
                fs::read_to_string(&path)
            };
            sources.insert(name.clone(), read().map_err(|error| format!("{name}: {error}"))?);
        }
    }
    Ok(sources)
}

/// Returns the names in the folder, sorted, without hidden ones.
fn entries(folder: &Path) -> Result<Vec<String>, String> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    };
    read().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        Contents {
            code: Some(SecretString::from("ABCD-EFGH")),
            link: Some(SecretString::from("https://example.com/#reset-password?a=1&code=x")),
            minutes: Some(7),
            time: Some(Timestamp::from_micros(1_700_000_000_000_000)),
            ip_address: Some("<192.0.2.1>".to_owned()),
            login: Some("ann.first".to_owned()),
            old_login: Some("ann".to_owned()),
            new_login: Some("ann.new".to_owned()),
            user_agent: Some("Firefox 120".to_owned()),
            is_invalidated: true,
            is_by_administrator: false,
        }
    }

    fn built_in() -> Templates {
        Templates::read(None, "play.example.com").expect("good templates")
    }

    #[test]
    fn every_built_in_template_shows_its_contents() {
        let templates = built_in();
        for (locale, word) in [("en", "password"), ("ru-RU", "пароль"), ("de", "password")] {
            let reset = templates
                .render(locale, MailKind::PasswordReset, &contents())
                .expect("a mail");
            for body in [&reset.text, &reset.html] {
                assert!(
                    body.contains("ABCD-EFGH") && body.contains('7') && body.contains(word),
                    "{body}"
                );
            }
            assert!(
                reset.text.contains("https://example.com/#reset-password?a=1&code=x"),
                "{}",
                reset.text
            );
            assert!(reset.html.contains("?a=1&amp;code=x"), "{}", reset.html);
            assert!(reset.subject.contains("play.example.com"));
            for kind in [MailKind::EmailVerification, MailKind::EmailChange] {
                let mail = templates.render(locale, kind, &contents()).expect("a mail");
                for body in [&mail.text, &mail.html] {
                    // Seven minutes are shown as an hour.
                    assert!(body.contains("ABCD-EFGH") && body.contains('1'), "{body}");
                }
                assert!(mail.html.contains("?a=1&amp;code=x"), "{}", mail.html);
            }
            let undone = templates
                .render(locale, MailKind::EmailChanged, &contents())
                .expect("a mail");
            assert!(undone.text.contains("?a=1&code=x") && undone.html.contains("?a=1&amp;code=x"));
            let changed = templates
                .render(locale, MailKind::PasswordChanged, &contents())
                .expect("a mail");
            assert!(changed.text.contains("2023-11-14 22:13 UTC") && changed.text.contains("<192.0.2.1>"));
            assert!(changed.html.contains("&lt;192.0.2.1&gt;"), "{}", changed.html);
            for kind in [MailKind::AdministratorReset, MailKind::Invitation] {
                let mail = templates.render(locale, kind, &contents()).expect("a mail");
                for body in [&mail.text, &mail.html] {
                    assert!(body.contains("ABCD-EFGH") && body.contains("#reset-password?a=1&"));
                    assert_eq!(body.contains("ann.first"), kind == MailKind::Invitation, "{body}");
                }
            }
            let word = if locale.starts_with("ru") {
                "дминистратор"
            } else {
                "dministrator"
            };
            for kind in [
                MailKind::PasswordChanged,
                MailKind::LoginChanged,
                MailKind::EmailChanged,
            ] {
                for is_by_administrator in [false, true] {
                    let contents = Contents {
                        is_by_administrator,
                        ..contents()
                    };
                    let mail = templates.render(locale, kind, &contents).expect("a mail");
                    for body in [&mail.text, &mail.html] {
                        assert_eq!(body.contains(word), is_by_administrator, "{body}");
                    }
                }
            }
            for (kind, shown) in [
                (MailKind::LoginChanged, "ann.new"),
                (MailKind::DeviceLogin, "Firefox 120"),
                (MailKind::RefreshTokenReused, "play.example.com"),
            ] {
                let mail = templates.render(locale, kind, &contents()).expect("a mail");
                assert!(mail.text.contains(shown) && mail.text.contains("2023-11-14 22:13 UTC"));
                assert!(mail.html.contains(shown) && mail.html.contains("&lt;192.0.2.1&gt;"));
            }
        }
    }

    #[test]
    fn a_folder_replaces_templates_and_adds_languages() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        let read = || Templates::read(Some(folder.path()), "example.com");
        write("en/password_reset.txt", "Our subject\n\nOur text {{ code }}\n");
        let mail = read()
            .expect("good")
            .render("en", MailKind::PasswordReset, &contents())
            .expect("a mail");
        assert_eq!(
            (mail.subject.as_str(), mail.text.as_str()),
            ("Our subject", "Our text ABCD-EFGH")
        );
        for (name, text, complaint) in [
            ("en/password_reset.txt", "{{ cod }}", "password_reset.txt"),
            ("en/password_reset.txt", "{% if %}", "password_reset.txt"),
            ("en/password_reset.txt", "", "first line must be the subject"),
            ("en/welcome.txt", "Hello", "en/welcome.txt is not a template"),
            ("de/password_reset.txt", "Betreff\nText", "de/password_reset.html"),
            ("english!/password_reset.txt", "x", "not a BCP 47 language tag"),
            ("pt-br/password_reset.txt", "x", "must be named pt-BR"),
        ] {
            write(name, text);
            let error = read().expect_err(complaint).to_string();
            assert!(error.contains(complaint), "{error}");
            fs::remove_file(folder.path().join(name)).expect("removed");
            let language = folder.path().join(name.split('/').next().expect("a language"));
            fs::remove_dir(language).expect("removed");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        let complaint = || {
            let read = Templates::read(Some(folder.path()), "example.com");
            read.expect_err("mistakes").to_string()
        };
        write("en/password_reset.txt", "{{ cod }}");
        write("en/invitation.html", "{{ cod }}");
        let error = complaint();
        assert!(
            error.contains("en/password_reset.txt") && error.contains("en/invitation.html"),
            "{error}"
        );
        write("en/login_changed.txt", "{% if %}");
        write("en/device_login.html", "{% if %}");
        let error = complaint();
        assert!(
            error.contains("en/login_changed.txt") && error.contains("en/device_login.html"),
            "{error}"
        );
        write("de/password_reset.txt", "Betreff\nText");
        write("fr/invitation.txt", "Sujet\nTexte");
        let error = complaint();
        for kind in MailKind::ALL {
            for name in names_of(kind) {
                let german = format!("de/{name}");
                assert_eq!(error.contains(&german), german != "de/password_reset.txt", "{error}");
                let french = format!("fr/{name}");
                assert_eq!(error.contains(&french), french != "fr/invitation.txt", "{error}");
            }
        }
    }
}
