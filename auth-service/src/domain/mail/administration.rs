//! Mails with codes that administrators send: invitations, and resets of passwords.

use std::time::Duration;

use base::validate::InvalidFields;
use db::Conn;

use crate::{
    domain::{
        error::Error,
        mail::{
            letter::Letter,
            outbox::{MAX_PER_DAY, MAX_PER_HOUR, Mails},
        },
        users::names,
    },
    model::{CodePurpose, User},
    store,
};

/// Sort of mails that are counted. They do not share the count of those that anyone can ask for, so
/// that nobody can keep an administrator from sending one.
pub(super) const COUNTED: &str = "administration";
/// Pause suggested to an administrator if an address has got as many mails as it may.
const QUOTA_RETRY: Duration = Duration::from_hours(1);

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
        let mailer = self.mailer.as_ref().ok_or(Error::MailNotConfigured)?;
        if mailer.reaches(&names::mail_address(email)) {
            Ok(())
        } else {
            Err(InvalidFields::one(field, "has an e-mail address that no mail can reach").into())
        }
    }

    /// Writes a mail with a code to a user whose row is locked. The code of an earlier mail stays
    /// valid.
    pub(in crate::domain) async fn post_password_link(
        &self,
        tx: &mut Conn,
        user: &User,
        link: PasswordLink,
    ) -> Result<(), Error> {
        let counter = self.counter(COUNTED, user);
        if !self.has_quota(tx, &counter, [MAX_PER_HOUR, MAX_PER_DAY]).await? {
            return Err(Error::TooManyMails(QUOTA_RETRY));
        }
        let now = self.time.now();
        let code = self.live_code(tx, user, link.purpose(), now).await?;
        let (login, expire_time) = (user.login.clone(), code.expire_time.as_micros());
        let is_typable = code.has_typed_tries();
        let letter = match link {
            PasswordLink::Invitation => Letter::Invitation {
                login,
                is_typable,
                seed: code.seed,
                expire_time,
            },
            PasswordLink::Reset { is_invalidated } => Letter::AdministratorReset {
                login,
                is_typable,
                seed: code.seed,
                expire_time,
                is_invalidated,
            },
        };
        if let Some(id) = self.post(tx, user, &letter).await? {
            store::mail_quota_insert(tx, id, &counter, now).await?;
        }
        Ok(())
    }
}

impl PasswordLink {
    const fn purpose(self) -> CodePurpose {
        match self {
            Self::Invitation => CodePurpose::Invitation,
            Self::Reset { .. } => CodePurpose::AdministratorReset,
        }
    }
}
