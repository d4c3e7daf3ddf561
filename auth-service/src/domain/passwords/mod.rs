//! Passwords: what a password may be, how it is hashed and verified, how it changes, and how guessing is limited.
//!
//! Hashing is slow, so it runs on dedicated threads, scheduled fairly, and never within a transaction.

pub(super) mod attempts;
pub(super) mod changes;
pub(super) mod common;
pub(super) mod hashing;
pub(super) mod password;
pub(super) mod queue;
