//! What tests are built from. Behind the feature `testing`, and never part of a service.

mod database;
pub mod postgres;

pub use self::database::{TestDatabase, block_on};
pub use crate::on_both_backends;
