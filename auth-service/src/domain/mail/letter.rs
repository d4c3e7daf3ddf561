//! The contents of mails, as they are stored.

use base::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::MailKind;

/// Content of a mail. It is stored with the mail and holds no secret: a code is derived from its
/// seed when the mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::domain) enum Letter {
    /// A code with which the user can replace a forgotten password.
    PasswordReset {
        /// Login of the user, as it stands in the link.
        login: String,
        /// Seed of the code.
        seed: Vec<u8>,
        /// Whether the short code can still be tried.
        is_typable: bool,
        /// Time when the code expires, in microseconds since 1970.
        expire_time: i64,
    },
    /// A code with which the user replaces the password, because an administrator wishes it.
    AdministratorReset {
        /// Login of the user, as it stands in the link.
        login: String,
        /// Seed of the code.
        seed: Vec<u8>,
        /// Whether the short code can still be tried.
        is_typable: bool,
        /// Time when the code expires, in microseconds since 1970.
        expire_time: i64,
        /// Whether the present password no longer works.
        is_invalidated: bool,
    },
    /// A code with which an invited user chooses the first password.
    Invitation {
        /// Login of the user, as it stands in the link.
        login: String,
        /// Seed of the code.
        seed: Vec<u8>,
        /// Whether the short code can still be tried.
        is_typable: bool,
        /// Time when the code expires, in microseconds since 1970.
        expire_time: i64,
    },
    /// The password has changed.
    PasswordChanged {
        /// Time of the change, in microseconds since 1970.
        time: i64,
        /// Address from which it was changed; may be empty.
        ip_address: String,
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
    },
    /// Someone has logged in from a device that is not known.
    DeviceLogin {
        /// User agent of the device, as the mail shows it; may be empty.
        user_agent: String,
        /// Time of the login, in microseconds since 1970.
        time: i64,
        /// Address of the device; may be empty.
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

impl Letter {
    /// Returns the time from which the mail is of no use.
    pub(in crate::domain) const fn end(&self) -> Option<Timestamp> {
        match self {
            Self::PasswordReset { expire_time, .. }
            | Self::AdministratorReset { expire_time, .. }
            | Self::Invitation { expire_time, .. } => Some(Timestamp::from_micros(*expire_time)),
            Self::PasswordChanged { .. }
            | Self::LoginChanged { .. }
            | Self::DeviceLogin { .. }
            | Self::RefreshTokenReused { .. } => None,
        }
    }

    pub(in crate::domain) const fn kind(&self) -> MailKind {
        match self {
            Self::PasswordReset { .. } => MailKind::PasswordReset,
            Self::AdministratorReset { .. } => MailKind::AdministratorReset,
            Self::Invitation { .. } => MailKind::Invitation,
            Self::PasswordChanged { .. } => MailKind::PasswordChanged,
            Self::LoginChanged { .. } => MailKind::LoginChanged,
            Self::DeviceLogin { .. } => MailKind::DeviceLogin,
            Self::RefreshTokenReused { .. } => MailKind::RefreshTokenReused,
        }
    }
}
