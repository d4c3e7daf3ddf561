//! The testing kit for whole servers. Behind the feature `testing`, and never part of a service.

pub mod contract;
pub mod invalid;
pub mod program;
