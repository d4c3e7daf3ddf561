//! Mails to users, and the codes in them.

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::UserId,
};

use crate::ids::{EmailUndoId, MailId};

/// Number of times that the short form of a code can be tried.
const MAX_TYPED_TRIES: i64 = 5;

db::text_enum! {
    /// Purpose of a mailed code.
    pub(crate) enum CodePurpose {
        /// Replacement of a forgotten password.
        PasswordReset = "password_reset",
        /// Replacement of a password at the request of an administrator.
        AdministratorReset = "administrator_reset",
        /// Choice of the first password.
        Invitation = "invitation",
        /// Proof that the user receives mail at their address.
        EmailVerification = "email_verification",
        /// Proof that the user receives mail at a new address.
        EmailChange = "email_change",
        /// Return to the address that the user had before a change.
        EmailUndo = "email_undo",
        /// Proof that a user who has to add a second factor receives mail at their address.
        FactorEnrolment = "factor_enrolment",
    }
}

impl CodePurpose {
    /// Purposes of the codes with which a user chooses a password.
    pub(crate) const OF_PASSWORDS: [Self; 3] = [Self::PasswordReset, Self::AdministratorReset, Self::Invitation];
}

db::text_enum! {
    /// Kinds of mail.
    pub(crate) enum MailKind {
        /// Code that replaces a forgotten password.
        PasswordReset = "password_reset",
        /// Code that replaces a password at the request of an administrator.
        AdministratorReset = "administrator_reset",
        /// Code with which the user chooses the first password.
        Invitation = "invitation",
        /// Notice that the password has changed.
        PasswordChanged = "password_changed",
        /// Notice that the login has changed.
        LoginChanged = "login_changed",
        /// Code that sets a password after a change of the address was undone.
        EmailReverted = "email_reverted",
        /// Notice of a login from a device that is not known.
        DeviceLogin = "device_login",
        /// Notice that an old refresh token was used again.
        RefreshTokenReused = "refresh_token_reused",
        /// Code that proves that the user receives mail at their address.
        EmailVerification = "email_verification",
        /// Code that proves that the user receives mail at a new address.
        EmailChange = "email_change",
        /// Notice to the former address that the address has changed. If it was verified, the
        /// notice has a link that undoes the change.
        EmailChanged = "email_changed",
        /// Code with which a user who must have a second factor can add one.
        FactorEnrolment = "factor_enrolment",
        /// Notice that a second factor was added.
        SecondFactorAdded = "second_factor_added",
        /// Notice that a second factor was removed.
        SecondFactorRemoved = "second_factor_removed",
        /// Notice that the recovery codes were replaced.
        RecoveryCodesRenewed = "recovery_codes_renewed",
    }
}

impl MailKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 15] = [
        Self::PasswordReset,
        Self::AdministratorReset,
        Self::Invitation,
        Self::EmailVerification,
        Self::EmailChange,
        Self::PasswordChanged,
        Self::LoginChanged,
        Self::EmailChanged,
        Self::EmailReverted,
        Self::DeviceLogin,
        Self::RefreshTokenReused,
        Self::FactorEnrolment,
        Self::SecondFactorAdded,
        Self::SecondFactorRemoved,
        Self::RecoveryCodesRenewed,
    ];
}

/// A code that was mailed to a user. A user has at most one for each purpose.
#[derive(Clone, Debug)]
pub(crate) struct AccountCode {
    pub(crate) user_id: UserId,
    pub(crate) purpose: CodePurpose,
    /// Random bytes from which the code is derived, together with the server secret.
    pub(crate) seed: Vec<u8>,
    /// Number of times that the short form was tried.
    pub(crate) typed_tries: i64,
    pub(crate) create_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    /// New address to which the code was mailed; `None` if it went to the user's address.
    pub(crate) email: Option<String>,
}

/// A former address of a user, and the code that makes it the user's address again.
#[derive(Clone, Debug)]
pub(crate) struct EmailUndo {
    pub(crate) id: EmailUndoId,
    pub(crate) user_id: UserId,
    /// Address, as it was entered.
    pub(crate) email: String,
    /// Key of the address.
    pub(crate) email_folded: String,
    /// Random bytes from which the code is derived, together with the server secret.
    pub(crate) seed: Vec<u8>,
    pub(crate) create_time: Timestamp,
    pub(crate) expire_time: Timestamp,
}

impl AccountCode {
    /// Returns whether the code can be used.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        is_live(self.create_time, self.expire_time, now)
    }

    /// Returns whether the short form can be tried once more.
    pub(crate) const fn has_typed_tries(&self) -> bool {
        self.typed_tries < MAX_TYPED_TRIES
    }

    /// Returns whether the short form can still be tried, if the present try is counted already.
    pub(crate) const fn admits_typed_try(&self) -> bool {
        self.typed_tries <= MAX_TYPED_TRIES
    }
}

impl EmailUndo {
    /// Returns whether the code can be used.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        is_live(self.create_time, self.expire_time, now)
    }
}

/// Returns whether a code with these times can be used. A code from the future was made by a clock
/// that was wrong, and would live too long.
fn is_live(create_time: Timestamp, expire_time: Timestamp, now: Timestamp) -> bool {
    now < expire_time && create_time <= now.plus(ALLOWANCE)
}

/// A mail that waits to be sent.
#[derive(Clone, Debug)]
pub(crate) struct OutboxMail {
    pub(crate) id: MailId,
    pub(crate) user_id: UserId,
    pub(crate) kind: MailKind,
    /// Address to which it goes.
    pub(crate) recipient: String,
    /// Language, a BCP 47 tag, or empty.
    pub(crate) locale: String,
    /// Content, as JSON.
    pub(crate) content: String,
    /// Number of attempts to send it, including a present one.
    pub(crate) attempts: i64,
    pub(crate) create_time: Timestamp,
    /// Time of the next attempt. During an attempt, the time from which another one may begin.
    pub(crate) attempt_time: Timestamp,
}

/// A code that was mailed to a user, without what it is derived from. A newer version may have
/// written a purpose that this one does not know.
#[derive(Clone, Debug)]
pub(crate) struct MailedCode {
    pub(crate) purpose: String,
    /// Number of times that the short form was tried.
    pub(crate) typed_tries: i64,
    pub(crate) create_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    /// New address to which the code was mailed; `None` if it went to the user's address.
    pub(crate) email: Option<String>,
}

/// A mail that waits to be sent, without its content. A newer version may have written a kind that
/// this one does not know.
#[derive(Clone, Debug)]
pub(crate) struct WaitingMail {
    pub(crate) kind: String,
    /// Address to which it goes.
    pub(crate) recipient: String,
    /// Language, a BCP 47 tag, or empty.
    pub(crate) locale: String,
    /// Number of attempts to send it, including a present one.
    pub(crate) attempts: i64,
    pub(crate) create_time: Timestamp,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_code_lives_until_it_expires_and_not_longer_by_a_wrong_clock() {
        let now = Timestamp::from_micros(1_000_000_000_000);
        let code = AccountCode {
            user_id: UserId::generate(),
            purpose: CodePurpose::PasswordReset,
            seed: Vec::new(),
            typed_tries: 5,
            create_time: now,
            expire_time: now.plus(Duration::from_mins(10)),
            email: None,
        };
        assert!(code.is_live(now) && code.is_live(now.minus(ALLOWANCE)));
        assert!(code.is_live(code.expire_time.minus(Duration::from_micros(1))));
        assert!(!code.is_live(code.expire_time));
        assert!(!code.is_live(now.minus(ALLOWANCE).minus(Duration::from_micros(1))));
        assert!(code.admits_typed_try());
        let worn_out = AccountCode { typed_tries: 6, ..code };
        assert!(!worn_out.admits_typed_try());
    }
}
