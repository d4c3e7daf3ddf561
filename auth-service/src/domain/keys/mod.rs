//! Keys: the server secret and what is derived from it, and the ring of signing keys.
//!
//! No private key leaves this module. Other modules ask the [`ring`] for the active key and sign
//! with it.

pub(super) mod mac_keys;
pub(super) mod ring;
pub(super) mod schedule;
pub(super) mod sealing_keys;
pub(super) mod secret;
pub(super) mod signing_key;
