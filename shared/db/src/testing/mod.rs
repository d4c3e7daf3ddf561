//! Test support for databases. Behind the feature `testing`, and never part of a service.

mod database;
pub mod postgres;
mod postgres_programs;
mod rows_read;

pub use test_macros::on_both_backends;

#[doc(hidden)]
pub use self::database::run_test;
pub use self::{
    database::TestDatabase,
    rows_read::{RowsRead, rows_read},
};
