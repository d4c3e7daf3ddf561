//! Credentials of guests.

use base::{clock::Timestamp, ids::UserId};

/// The stored part of a guest's credential.
#[derive(Clone, Debug)]
pub(crate) struct GuestCredential {
    pub(crate) user_id: UserId,
    /// HMAC of the credential.
    pub(crate) mac: Vec<u8>,
    pub(crate) create_time: Timestamp,
    /// Time of the last use of the account that a check has found.
    pub(crate) use_time: Timestamp,
    /// Time of the next check whether the guest has been idle for too long.
    pub(crate) sweep_time: Timestamp,
}
