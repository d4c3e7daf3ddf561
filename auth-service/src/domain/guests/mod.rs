//! Guests: users without a password and an e-mail address of their own. They log in with a
//! credential that their device keeps, until they upgrade the account or have been idle for too
//! long.
//!
//! The row of a guest looks like that of any user, so that older versions of this program can read
//! it: the login and the address are generated, and no known password matches the password hash.

pub(super) mod credential;
pub(super) mod deletion;
pub(super) mod idle;
pub(super) mod login;
pub(super) mod proof;
pub(super) mod registration;
pub(super) mod rules;
pub(super) mod upgrade;
