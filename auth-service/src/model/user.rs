//! Users.

use std::time::Duration;

use base::{clock::Timestamp, ids::UserId};
use secrecy::SecretString;

/// A user.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) login: String,
    pub(crate) email: String,
    pub(crate) password_hash: SecretString,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) middle_name: String,
    pub(crate) is_active: bool,
    /// Access tokens that carry a lower version are refused.
    pub(crate) token_version: i64,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) last_login_time: Option<Timestamp>,
    pub(crate) must_change_password: bool,
    /// Whether the user represents a service.
    pub(crate) is_service: bool,
    pub(crate) force_logout_time: Option<Timestamp>,
    pub(crate) delete_time: Option<Timestamp>,
    /// Whether another user has the key of this address.
    pub(crate) email_is_taken: bool,
    /// Equals `update_time` if the key of the address and the search text are current. An older
    /// version of this program does not write this column, so rows that it changes become stale.
    pub(crate) key_time: Option<Timestamp>,
    /// Language of mails to the user, a BCP 47 tag, or empty.
    pub(crate) locale: String,
    /// Time when the user last proved that they receive mail at this address.
    pub(crate) email_verify_time: Option<Timestamp>,
    /// Time when the user got the address, if that was after the registration and not by a code.
    pub(crate) email_set_time: Option<Timestamp>,
    /// Time when the user was last invited to choose a password; `None` once they have one.
    pub(crate) invite_time: Option<Timestamp>,
    /// Time before which a temporary password does not expire, whatever its age.
    pub(crate) min_password_expire_time: Option<Timestamp>,
    /// Whether the user is a guest. A guest has a login and an address that were generated, and no
    /// password.
    pub(crate) is_guest: bool,
    /// Whether the user has a confirmed second factor.
    pub(crate) has_second_factor: bool,
}

impl User {
    /// Returns whether the user is a person and has not been deleted.
    pub(crate) const fn is_person(&self) -> bool {
        !self.is_service && !self.is_deleted()
    }

    /// Returns the time when the password expires if it is temporary. `life` is the lifetime of a
    /// temporary password.
    pub(crate) fn password_expire_time(&self, life: Duration) -> Option<Timestamp> {
        // Setting a temporary password logs the user out everywhere, even in an older version of
        // this program, which does not know of expiry. Later logouts leave the time as it is.
        let set_time = self.force_logout_time.unwrap_or(Timestamp::EPOCH).max(self.create_time);
        let least = self.min_password_expire_time.unwrap_or(Timestamp::EPOCH);
        self.must_change_password.then(|| set_time.plus(life).max(least))
    }

    /// Returns whether the user has been deleted.
    pub(crate) const fn is_deleted(&self) -> bool {
        self.delete_time.is_some()
    }
}

/// Filter for users.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserFilter {
    /// Folded text that the login, the address or the name contains. Empty matches everyone.
    pub(crate) query: String,
    /// Whether to include users who are not active.
    pub(crate) show_inactive: bool,
    /// Whether to list only users whose address belongs to another account.
    pub(crate) email_is_taken: bool,
    /// Code name of a role that the users have. Empty matches everyone.
    pub(crate) role: String,
}
