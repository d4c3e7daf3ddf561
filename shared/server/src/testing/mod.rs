//! Test kit for whole servers, available with the feature `testing`. It is never part of a service.

pub mod contract;
pub mod invalid;
pub mod program;
