//! The audit log: what is written to it, and how it is read and purged.
//!
//! An event is written in the same transaction as the change it records. A refusal is written in
//! its own transaction, because the use case's is rolled back.

pub(super) mod event;
pub(super) mod log;
