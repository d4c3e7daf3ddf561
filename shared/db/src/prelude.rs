//! What a store file imports: `use db::prelude::*;`. It is diesel's own prelude, with the
//! asynchronous `RunQueryDsl` instead of the blocking one.

pub use diesel::{prelude::*, upsert::excluded};
pub use diesel_async::RunQueryDsl;

/// diesel prepares an update anew each time, and so an insert that may update: each is `.cached()`.
pub use super::CachedDsl as _;
pub use super::{Conn, lock_row, query};
