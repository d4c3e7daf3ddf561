//! The testing kit for access. Behind the feature `testing`, and never part of a service.

pub mod feed;
pub mod tokens;
