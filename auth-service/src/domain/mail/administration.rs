//! Mails with codes that administrators send: invitations, and resets of passwords.

use base::validate::InvalidFields;
use db::Conn;

use crate::{
    domain::{
        error::Error,
        mail::{code_mails::MailLimit, letter::Letter, outbox::Mails},
    },
    model::{AccountCode, CodePurpose, User},
};

/// A mail with which a user chooses a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum PasswordLink {
    /// An invitation to choose the first password.
    Invitation,
    /// A request to choose another password.
    Reset {
        /// Whether the present password no longer works.
        is_invalidated: bool,
    },
}

impl Mails {
    /// Refuses an address that no mail from this deployment reaches. `field` is the field of the
    /// request that the error names.
    pub(in crate::domain) fn ensure_reaches(&self, email: &str, field: &'static str) -> Result<(), Error> {
        self.ensure_configured()?;
        if self.reaches(email) {
            Ok(())
        } else {
            Err(InvalidFields::one(field, "has an e-mail address that no mail can reach").into())
        }
    }

    /// Writes a mail with a code to a user whose row is locked. While the code of an earlier mail
    /// is valid, it is sent again.
    pub(in crate::domain) async fn post_password_link(
        &self,
        tx: &mut Conn,
        user: &User,
        link: PasswordLink,
    ) -> Result<(), Error> {
        let (purpose, limit) = (link.purpose(), MailLimit::Administrator);
        let letter = |identifier: &str, code: &AccountCode| link.letter(identifier, code);
        let posted = self.post_code_in(tx, user, (purpose, None), limit, letter).await?;
        posted.or_refuse()
    }
}

impl PasswordLink {
    const fn purpose(self) -> CodePurpose {
        match self {
            Self::Invitation => CodePurpose::Invitation,
            Self::Reset { .. } => CodePurpose::AdministratorReset,
        }
    }

    fn letter(self, identifier: &str, code: &AccountCode) -> Letter {
        match (self, Letter::with_code(identifier, code)) {
            (Self::Reset { is_invalidated }, Letter::AdministratorReset { code, .. }) => {
                Letter::AdministratorReset { code, is_invalidated }
            }
            (_, letter) => letter,
        }
    }
}
