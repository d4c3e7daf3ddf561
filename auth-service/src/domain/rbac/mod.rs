//! Roles and permissions: which ones exist, who holds them, and who may give them to whom.
//!
//! Use cases lock the rows of users first, in the order of their ids, and then what [`lock`]
//! guards. [`authority`] decides whether the caller may act on another user.

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
