//! Rules for guests.

use std::time::Duration;

use crate::domain::guests::credential::GuestCredentials;

/// Rules for guests, and their credentials.
#[derive(Clone, Debug)]
pub(crate) struct Guests {
    pub(crate) credentials: GuestCredentials,
    /// Whether guests may register.
    pub(crate) is_open: bool,
    /// How long a guest may be idle before the account is deleted. `None` if it never is.
    pub(crate) max_idle: Option<Duration>,
}
