//! Test kit for access, available with the feature `testing`. It is never part of a service.

pub mod feed;
pub mod tokens;
