//! Passwords: what a password may be, how it is hashed and verified, how it changes, and how
//! guessing is limited.
//!
//! Hashing is slow, so it runs on dedicated threads, scheduled fairly, and never within a
//! transaction.

pub(super) mod attempts;
pub(super) mod breached;
pub(super) mod changes;
mod charges;
pub(super) mod common;
pub(super) mod hashing;
pub(super) mod imported;
mod low_priority;
mod padding;
pub(super) mod password;
pub(super) mod present_costs;
pub(super) mod queue;
pub(super) mod reset;
pub(super) mod unusable;
