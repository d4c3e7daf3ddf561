//! What tests of a whole server are built from. Behind the feature `testing`, and never part of a service.

pub mod contract;
pub mod invalid;
pub mod program;
