//! Mails with codes: how long a code lives, and how many mails one address gets.

use std::time::Duration;

use base::{clock::Timestamp, ids::UserId};
use db::Conn;

use crate::{
    domain::{
        error::Error,
        mail::{
            codes::{AccountCodes, Binding, PresentedCode},
            letter::Letter,
            outbox::{MAX_PER_DAY, MAX_PER_HOUR, Mails},
        },
        users::names::{self, Email},
    },
    model::{AccountCode, CodePurpose, User},
    store,
};

/// Pause suggested to a caller if too many mails have gone to an address.
const RETRY: Duration = Duration::from_hours(1);

/// Name of the count of mails that anyone can ask for.
pub(super) const COUNTED: &str = "code";
/// Name of the count of mails that administrators send. It is separate, so that nobody can keep an
/// administrator from sending one.
pub(super) const COUNTED_OF_ADMINISTRATORS: &str = "administration";
/// Longest validity of a code that is sent repeatedly, as a multiple of its [`life`].
const MAX_LIVES: u32 = 3;

/// Limit on the mails with codes to one address, in an hour and in a day.
///
/// The limits are in steps. Mails that verify an address leave some for the reset of a password, so
/// the owner of an address can take over an account that a stranger registered with it. And resets
/// that strangers ask for leave some for the devices of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum MailLimit {
    /// For a device on which the user has logged in.
    KnownDevice,
    /// For a caller who may not be the user.
    Anyone,
    /// For a new address, or one that was never verified.
    Unverified,
    /// For an administrator, or for a user who undoes a change. These mails are counted apart from
    /// all others.
    Administrator,
}

/// Whether a mail was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Posted {
    Yes,
    /// Too many mails have gone to this address.
    TooMany,
    /// No mail can go to this address.
    Unreachable,
}

impl MailLimit {
    const fn numbers(self) -> [i64; 2] {
        match self {
            Self::KnownDevice | Self::Administrator => [MAX_PER_HOUR, MAX_PER_DAY],
            Self::Anyone => [MAX_PER_HOUR - 1, MAX_PER_DAY - 4],
            Self::Unverified => [MAX_PER_HOUR - 2, MAX_PER_DAY - 8],
        }
    }

    const fn counted_as(self) -> &'static str {
        match self {
            Self::Administrator => COUNTED_OF_ADMINISTRATORS,
            Self::KnownDevice | Self::Anyone | Self::Unverified => COUNTED,
        }
    }
}

impl Posted {
    /// Turns a mail that was not written into an error, for a caller who may know why.
    pub(in crate::domain) fn or_refuse(self) -> Result<(), Error> {
        match self {
            Self::Yes => Ok(()),
            Self::TooMany => Err(Error::TooManyMails(RETRY)),
            Self::Unreachable => Err(Error::EmailUnreachable),
        }
    }
}

impl Mails {
    /// Fails if this deployment cannot send mail.
    pub(in crate::domain) fn ensure_configured(&self) -> Result<(), Error> {
        if self.is_configured() {
            Ok(())
        } else {
            Err(Error::MailNotConfigured)
        }
    }

    /// Returns whether this deployment can send mail.
    pub(in crate::domain) const fn is_configured(&self) -> bool {
        self.mailer.is_some()
    }

    /// Returns whether a mail to this address, as a user entered it, can arrive anywhere.
    pub(in crate::domain) fn reaches(&self, email: &str) -> bool {
        let address = names::mail_address(email);
        !names::is_unreachable(&address) && self.mailer.as_ref().is_some_and(|mailer| mailer.reaches(&address))
    }

    /// Mails the user a code, in the transaction of its cause. The caller has locked the user's
    /// row. The mail goes to the user's address, or to `new`. While an earlier code for the same
    /// purpose and address is valid, it is sent again.
    pub(in crate::domain) async fn post_code(
        &self,
        tx: &mut Conn,
        user: &User,
        purpose: CodePurpose,
        new: Option<&Email>,
        limit: MailLimit,
    ) -> Result<Posted, Error> {
        self.post_code_in(tx, user, (purpose, new), limit, Letter::with_code)
            .await
    }

    /// Does the same with the content that `letter` makes from the code and what the link calls the
    /// user.
    pub(in crate::domain) async fn post_code_in(
        &self,
        tx: &mut Conn,
        user: &User,
        (purpose, new): (CodePurpose, Option<&Email>),
        limit: MailLimit,
        letter: impl Fn(&str, &AccountCode) -> Letter,
    ) -> Result<Posted, Error> {
        let recipient = new.map_or(user.email.as_str(), Email::as_str);
        if !self.reaches(recipient) {
            return Ok(Posted::Unreachable);
        }
        let counter = self.counter(limit.counted_as(), recipient);
        if !self.has_quota(tx, &counter, limit.numbers()).await? {
            return Ok(Posted::TooMany);
        }
        let now = self.time.now();
        let code = self.live_code(tx, user.id, purpose, new, now).await?;
        let letter = letter(linked_identifier(user, purpose, new), &code);
        let Some(id) = self.post_to(tx, user.id, recipient, &letter, &user.locale).await? else {
            return Ok(Posted::Unreachable);
        };
        store::mail_quota_insert(tx, id, &counter, now).await?;
        Ok(Posted::Yes)
    }

    /// Returns whether a code for this purpose has been mailed to the user that can still be typed.
    pub(in crate::domain) async fn has_live_code(
        &self,
        tx: &mut Conn,
        user_id: UserId,
        purpose: CodePurpose,
    ) -> Result<bool, Error> {
        let code = store::account_code(tx, user_id, purpose).await?;
        let can_be_typed = |code: &AccountCode| code.is_live(self.time.now()) && code.has_typed_tries();
        Ok(code.as_ref().is_some_and(can_be_typed))
    }

    /// Counts a try of the user's code, and returns the code if it is right. The caller has locked
    /// the user's row, and commits in either case.
    pub(in crate::domain) async fn try_code(
        &self,
        tx: &mut Conn,
        user: &User,
        purpose: CodePurpose,
        presented: &PresentedCode,
    ) -> Result<Option<AccountCode>, Error> {
        let code = store::account_code_count_tries(tx, user.id, purpose, presented.typed_tries()).await?;
        Ok(code.filter(|code| self.is_right(user, code, presented)))
    }

    /// Counts a try of each code of a user that sets a password. Returns the purpose of the one
    /// that is right. Runs the same statements if there is no such user.
    pub(in crate::domain) async fn try_password_codes(
        &self,
        tx: &mut Conn,
        id: UserId,
        user: Option<&User>,
        presented: &PresentedCode,
    ) -> Result<Option<CodePurpose>, Error> {
        let mut used = None;
        for purpose in CodePurpose::OF_PASSWORDS {
            let code = store::account_code_count_tries(tx, id, purpose, presented.typed_tries()).await?;
            let is_right = user
                .zip(code)
                .is_some_and(|(user, code)| self.is_right(user, &code, presented));
            used = used.or(is_right.then_some(purpose));
        }
        Ok(used)
    }

    /// Returns whether this is the user's code and can still be used. The try is counted already.
    fn is_right(&self, user: &User, code: &AccountCode, presented: &PresentedCode) -> bool {
        let address = code.email.as_deref().unwrap_or(&user.email);
        let binding = Binding {
            purpose: code.purpose,
            user_id: user.id,
            address_key: &names::identifier_key(address),
            seed: &code.seed,
        };
        let is_usable = code.is_live(self.time.now()) && (presented.typed_tries() == 0 || code.admits_typed_try());
        self.codes.is_right(binding, presented) && is_usable
    }

    /// Returns the user's code while it is valid, with a longer life, so that a request does not
    /// invalidate the code of an earlier one. Otherwise makes a new one.
    async fn live_code(
        &self,
        tx: &mut Conn,
        user_id: UserId,
        purpose: CodePurpose,
        new: Option<&Email>,
        now: Timestamp,
    ) -> Result<AccountCode, Error> {
        let life = life(purpose);
        let email = new.map(|email| email.as_str().to_owned());
        let present = store::account_code(tx, user_id, purpose).await?;
        let end = |code: &AccountCode| code.create_time.plus(MAX_LIVES * life);
        let lasts = |code: &AccountCode| code.is_live(now) && now.plus(life / 2) <= end(code);
        let code = match present.filter(|code| code.email == email && lasts(code)) {
            Some(code) => AccountCode {
                expire_time: now.plus(life).min(end(&code)),
                ..code
            },
            None => AccountCode {
                user_id,
                purpose,
                seed: AccountCodes::seed(),
                typed_tries: 0,
                create_time: now,
                expire_time: now.plus(life),
                email,
            },
        };
        store::account_code_replace(tx, &code).await?;
        Ok(code)
    }
}

/// Returns what the link in a mail calls the user. The address stays right if the user gets another
/// login before the link is opened. The login is used in an invitation, whose reader has never seen
/// it; if another user has the address; and in a mail to a new address, whose owner may be somebody
/// else and must not learn the present one.
fn linked_identifier<'a>(user: &'a User, purpose: CodePurpose, new: Option<&Email>) -> &'a str {
    if purpose == CodePurpose::Invitation || new.is_some() || user.email_is_taken {
        &user.login
    } else {
        &user.email
    }
}

/// Returns how long a code is valid after the last mail with it. If an earlier code cannot be valid
/// for at least half of this, the next mail has a new one.
const fn life(purpose: CodePurpose) -> Duration {
    match purpose {
        CodePurpose::PasswordReset | CodePurpose::FactorEnrolment => Duration::from_mins(10),
        // The user may read these mails much later.
        CodePurpose::AdministratorReset
        | CodePurpose::EmailVerification
        | CodePurpose::EmailChange
        | CodePurpose::EmailUndo => Duration::from_hours(24),
        CodePurpose::Invitation => Duration::from_hours(7 * 24),
    }
}
