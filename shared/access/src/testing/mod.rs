//! What tests of access are built from. Behind the feature `testing`, and never part of a service.

pub mod feed;
pub mod tokens;
