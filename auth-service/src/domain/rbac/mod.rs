//! Roles and permissions: which ones exist, who holds them, and who may give them to whom.
//!
//! Use cases lock the rows of users first, in the order of their ids, and then what [`lock`]
//! guards. Then they check that the caller's token is still good, because it may have been revoked
//! while the call waited. [`authority`] decides whether the caller may act on another user. A
//! caller without authority does not learn who holds what.

pub(super) mod authority;
pub(super) mod catalog;
pub(super) mod code_name;
pub(super) mod decisions;
pub(super) mod declared;
pub(super) mod deletion;
pub(super) mod grants;
pub(super) mod lock;
pub(super) mod permissions;
pub(super) mod roles;
