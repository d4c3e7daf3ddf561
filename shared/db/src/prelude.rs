//! Imports of a store file: `use db::prelude::*;`. This is diesel's own prelude, with the
//! asynchronous `RunQueryDsl` instead of the blocking one.

pub use diesel::{prelude::*, upsert::excluded};
pub use diesel_async::RunQueryDsl;

/// Provides `.cached()`. Use it for updates and upserts, which diesel would otherwise prepare again
/// each time.
pub use super::CachedDsl as _;
pub use super::{Conn, lock_row, lock_row_but_its_key, query, query_postgres};
