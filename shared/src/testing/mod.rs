//! The testing kit.

pub mod tokens;
