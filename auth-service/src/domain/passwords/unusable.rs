//! Users without a password: guests, users who were invited and have not chosen one, users whose
//! password was taken, and users who log in with an identity provider.
//!
//! Their hash is random, so that no known password matches. Its salt is fixed and marks it. A hash
//! that a replica of the previous version stores has a random salt, so the mark needs no column
//! that such a replica would have to write.

use secrecy::ExposeSecret as _;

use crate::model::User;

/// Salt of the hash of a user without a password.
pub(super) const UNUSABLE_SALT: [u8; 16] = *b"without password";

/// The salt as it stands in a PHC string.
const IN_PHC: &str = "$d2l0aG91dCBwYXNzd29yZA$";

/// Returns whether the user has a password with which they can log in.
pub(in crate::domain) fn has_password(user: &User) -> bool {
    // Hashes from before the mark are those of users who are invited, or are guests.
    !user.is_guest && user.invite_time.is_none() && !user.password_hash.expose_secret().contains(IN_PHC)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

    use super::*;

    #[test]
    fn the_mark_is_the_salt() {
        assert_eq!(IN_PHC, format!("${}$", BASE64_STANDARD_NO_PAD.encode(UNUSABLE_SALT)));
    }
}
