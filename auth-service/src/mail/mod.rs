//! How mails look and how they leave: templates, languages, and the mail server.
//!
//! Nothing here knows the database or the rules. The outbox in `domain` decides what is sent and
//! when.

mod language;
mod mailer;
mod templates;

pub(crate) use self::{
    language::Locale,
    mailer::{MailError, Mailer, Transport},
    templates::{Contents, Templates},
};
