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
    /// Time at which the key began to sign, or is planned to.
    pub(crate) activate_time: Timestamp,
    pub(crate) retire_time: Option<Timestamp>,
    pub(crate) expire_time: Option<Timestamp>,
}

text_enum! {
    /// State of a key.
    pub(crate) enum KeyState {
        /// The key is published but does not sign yet.
        Next = "next",
        /// The key signs.
        Active = "active",
        /// The key no longer signs.
        Retired = "retired",
    }
}
