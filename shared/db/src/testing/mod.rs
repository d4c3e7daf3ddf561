//! Test support for databases. Behind the feature `testing`, and never part of a service.

mod database;
pub mod postgres;
mod postgres_programs;

pub use test_macros::on_both_backends;

pub use self::database::TestDatabase;
#[doc(hidden)]
pub use self::database::run_test;
