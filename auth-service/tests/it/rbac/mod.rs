//! Roles and permissions.

mod catalog;
mod declared;
mod grants;
