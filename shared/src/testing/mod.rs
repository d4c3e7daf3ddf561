//! What tests are built from. Behind the feature `testing`, and never part of a service.

pub mod contract;
mod database;
pub mod feed;
pub mod postgres;
pub mod program;
pub mod rpc;
pub mod tokens;

pub use self::database::{TestDatabase, block_on};
pub use crate::on_both_backends;
