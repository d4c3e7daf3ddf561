//! Signing keys as they are stored.

use base::clock::Timestamp;
use db::text_enum;

/// A stored signing key. Its private part is encrypted.
#[derive(Clone, Debug)]
pub(crate) struct SigningKeyRecord {
    pub(crate) kid: String,
    pub(crate) state: KeyState,
    pub(crate) public_key: Vec<u8>,
    pub(crate) encrypted_private_key: Vec<u8>,
    pub(crate) create_time: Timestamp,
    /// When it begins to sign, or when that is planned.
    pub(crate) activate_time: Timestamp,
    pub(crate) retire_time: Option<Timestamp>,
    pub(crate) expire_time: Option<Timestamp>,
}

text_enum! {
    /// The present use of a key.
    pub(crate) enum KeyState {
        /// It is published and does not sign yet.
        Next = "next",
        /// It signs.
        Active = "active",
        /// It signs no more.
        Retired = "retired",
    }
}
