//! The accounts of services.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::{clock::Timestamp, ids::UserId};

/// The account of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAccount {
    /// User that represents the service.
    pub(crate) user_id: UserId,
    pub(crate) client_id: String,
    pub(crate) description: String,
    pub(crate) secret_hash: Vec<u8>,
    pub(crate) secret_time: Timestamp,
    pub(crate) previous_secret_hash: Option<Vec<u8>>,
    pub(crate) previous_expire_time: Option<Timestamp>,
    pub(crate) create_time: Timestamp,
    pub(crate) last_token_time: Option<Timestamp>,
}

impl ServiceAccount {
    /// Returns whether this is the digest of the current secret, or of the previous one while that
    /// is still accepted.
    pub(crate) fn accepts(&self, digest: &[u8], now: Timestamp) -> bool {
        let is = |stored: &[u8]| verify_slices_are_equal(stored, digest).is_ok();
        let previous = self.previous_secret_hash.as_deref().zip(self.previous_expire_time);
        is(&self.secret_hash) || previous.is_some_and(|(hash, until)| now < until && is(hash))
    }
}
