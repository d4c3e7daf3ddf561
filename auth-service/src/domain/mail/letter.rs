//! The contents of mails, as they are stored.

use base::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{AccountCode, CodePurpose, EmailUndo, MailKind};

/// Content of a mail. It is stored with the mail and holds no secret: a code is derived from its
/// seed when the mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::domain) enum Letter {
    /// A code with which the user can replace a forgotten password.
    PasswordReset(CodeLetter),
    /// A code with which the user replaces the password, at the request of an administrator.
    AdministratorReset {
        #[serde(flatten)]
        code: CodeLetter,
        /// Whether the present password no longer works.
        is_invalidated: bool,
    },
    /// A code with which an invited user chooses the first password.
    Invitation(CodeLetter),
    /// A code that proves that the user receives mail at their address.
    EmailVerification(CodeLetter),
    /// A code that proves that the user receives mail at a new address.
    EmailChange(CodeLetter),
    /// The password has changed.
    PasswordChanged {
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was changed; may be empty.
        ip_address: String,
        /// Whether an administrator made the change. A mail that an older version stored says
        /// nothing of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_by_administrator: bool,
    },
    /// The login has changed.
    LoginChanged {
        /// Login before the change.
        old_login: String,
        /// Login after the change.
        new_login: String,
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was changed; may be empty.
        ip_address: String,
        /// Whether an administrator made the change.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_by_administrator: bool,
    },
    /// The e-mail address has changed.
    EmailChanged {
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was changed; may be empty.
        ip_address: String,
        /// Code that undoes the change, if the user had verified this address.
        undo: Option<UndoLetter>,
        /// Whether an administrator made the change.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_by_administrator: bool,
    },
    /// A code that sets a password after a change of the address was undone.
    EmailReverted(CodeLetter),
    /// Someone has logged in from a device that is not known.
    DeviceLogin {
        /// User agent of the device, as the mail shows it; may be empty.
        user_agent: String,
        /// Time of the login, in microseconds since 1970.
        time: i64,
        /// Address of the device; may be empty.
        ip_address: String,
    },
    /// A code with which a user who must have a second factor can add one.
    FactorEnrolment(CodeLetter),
    /// A second factor was added.
    SecondFactorAdded {
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was made; may be empty.
        ip_address: String,
    },
    /// A second factor was removed.
    SecondFactorRemoved {
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was made; may be empty.
        ip_address: String,
        /// Whether an administrator made the change.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_by_administrator: bool,
    },
    /// The recovery codes were replaced.
    RecoveryCodesRenewed {
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was made; may be empty.
        ip_address: String,
    },
    /// An old refresh token was used again, so its session was ended.
    RefreshTokenReused {
        /// Time of the use, in microseconds since 1970.
        time: i64,
        /// Address from which it was used; may be empty.
        ip_address: String,
    },
}

/// Content of a mail with a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::domain) struct CodeLetter {
    /// Address or login of the user, as it stands in the link.
    #[serde(rename = "login")]
    pub(in crate::domain) identifier: String,
    /// Seed of the code.
    pub(in crate::domain) seed: Vec<u8>,
    /// Whether the short code can still be tried.
    pub(in crate::domain) is_typable: bool,
    /// Time when the code expires, in microseconds since 1970.
    pub(in crate::domain) expire_time: i64,
}

/// Code that undoes a change of the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::domain) struct UndoLetter {
    /// Seed of the code.
    pub(in crate::domain) seed: Vec<u8>,
    /// Time when the code expires, in microseconds since 1970.
    pub(in crate::domain) expire_time: i64,
}

impl Letter {
    /// Creates the mail with a code of the user with this address or login.
    pub(in crate::domain) fn with_code(identifier: &str, code: &AccountCode) -> Self {
        let letter = CodeLetter {
            identifier: identifier.to_owned(),
            is_typable: code.has_typed_tries(),
            seed: code.seed.clone(),
            expire_time: code.expire_time.as_micros(),
        };
        match code.purpose {
            CodePurpose::PasswordReset => Self::PasswordReset(letter),
            CodePurpose::AdministratorReset => Self::AdministratorReset {
                code: letter,
                is_invalidated: false,
            },
            CodePurpose::Invitation => Self::Invitation(letter),
            // The code that undoes a change is in the notice of the change.
            CodePurpose::EmailVerification | CodePurpose::EmailUndo => Self::EmailVerification(letter),
            CodePurpose::EmailChange => Self::EmailChange(letter),
            CodePurpose::FactorEnrolment => Self::FactorEnrolment(letter),
        }
    }

    /// Returns the time from which the mail is of no use.
    pub(in crate::domain) const fn end(&self) -> Option<Timestamp> {
        match self {
            Self::PasswordReset(code)
            | Self::AdministratorReset { code, .. }
            | Self::Invitation(code)
            | Self::EmailVerification(code)
            | Self::EmailChange(code)
            | Self::EmailReverted(code)
            | Self::FactorEnrolment(code) => Some(Timestamp::from_micros(code.expire_time)),
            // A notice is of use even if its link has expired.
            Self::PasswordChanged { .. }
            | Self::LoginChanged { .. }
            | Self::EmailChanged { .. }
            | Self::DeviceLogin { .. }
            | Self::RefreshTokenReused { .. }
            | Self::SecondFactorAdded { .. }
            | Self::SecondFactorRemoved { .. }
            | Self::RecoveryCodesRenewed { .. } => None,
        }
    }

    pub(in crate::domain) const fn kind(&self) -> MailKind {
        match self {
            Self::PasswordReset(_) => MailKind::PasswordReset,
            Self::AdministratorReset { .. } => MailKind::AdministratorReset,
            Self::Invitation(_) => MailKind::Invitation,
            Self::EmailVerification(_) => MailKind::EmailVerification,
            Self::EmailChange(_) => MailKind::EmailChange,
            Self::PasswordChanged { .. } => MailKind::PasswordChanged,
            Self::LoginChanged { .. } => MailKind::LoginChanged,
            Self::EmailChanged { .. } => MailKind::EmailChanged,
            Self::EmailReverted(_) => MailKind::EmailReverted,
            Self::DeviceLogin { .. } => MailKind::DeviceLogin,
            Self::RefreshTokenReused { .. } => MailKind::RefreshTokenReused,
            Self::FactorEnrolment(_) => MailKind::FactorEnrolment,
            Self::SecondFactorAdded { .. } => MailKind::SecondFactorAdded,
            Self::SecondFactorRemoved { .. } => MailKind::SecondFactorRemoved,
            Self::RecoveryCodesRenewed { .. } => MailKind::RecoveryCodesRenewed,
        }
    }
}

impl UndoLetter {
    pub(in crate::domain) fn new(undo: &EmailUndo) -> Self {
        Self {
            seed: undo.seed.clone(),
            expire_time: undo.expire_time.as_micros(),
        }
    }

    pub(in crate::domain) const fn end(&self) -> Timestamp {
        Timestamp::from_micros(self.expire_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mails as the previous version stored them.
    #[test]
    fn stored_mails_stay_readable() {
        let reset = r#"{"kind":"password_reset","login":"ann","seed":[1,2],"is_typable":true,"expire_time":5}"#;
        let changed = r#"{"kind":"password_changed","time":5,"ip_address":"192.0.2.1"}"#;
        for (text, kind) in [(reset, MailKind::PasswordReset), (changed, MailKind::PasswordChanged)] {
            let letter: Letter = serde_json::from_str(text).expect("a letter");
            assert_eq!(letter.kind(), kind);
            assert_eq!(serde_json::to_string(&letter).expect("a text"), text);
        }
    }

    #[test]
    fn every_mail_can_be_stored_and_read_again() {
        let code = CodeLetter {
            identifier: "ann".to_owned(),
            seed: vec![1, 2],
            is_typable: false,
            expire_time: 5,
        };
        for letter in [
            Letter::AdministratorReset {
                code: code.clone(),
                is_invalidated: true,
            },
            Letter::Invitation(code.clone()),
            Letter::EmailVerification(code.clone()),
            Letter::EmailChange(code.clone()),
            Letter::FactorEnrolment(code),
            Letter::EmailChanged {
                time: 5,
                ip_address: String::new(),
                undo: Some(UndoLetter {
                    seed: vec![3],
                    expire_time: 6,
                }),
                is_by_administrator: false,
            },
            Letter::PasswordChanged {
                time: 5,
                ip_address: String::new(),
                is_by_administrator: true,
            },
        ] {
            let text = serde_json::to_string(&letter).expect("a text");
            assert_eq!(serde_json::from_str::<Letter>(&text).expect("a letter"), letter);
        }
    }
}
