//! The audit log: what is written to it, and how it is read and purged.
//!
//! An event is written in the transaction of what it tells of. A refusal has a transaction of its own, because that of
//! the use case is rolled back.

pub(super) mod event;
pub(super) mod log;
