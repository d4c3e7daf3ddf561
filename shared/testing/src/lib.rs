//! The testing kits of all crates here, under one name. Never part of a service.

pub use access::testing::{feed, tokens};
pub use base::testing::{block_on, endpoint, faketime, fuzz, rounds, rpc, write_secret};
pub use db::testing::{TestDatabase, on_both_backends, postgres, rows_read};
pub use server::testing::{contract, invalid, program};
