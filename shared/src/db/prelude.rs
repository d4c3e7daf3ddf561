//! What a store file imports: `use shared::db::prelude::*;`. It is diesel's own prelude, with the asynchronous
//! `RunQueryDsl` instead of the blocking one.

pub use diesel::{prelude::*, upsert::excluded};
pub use diesel_async::RunQueryDsl;

pub use super::{CachedDsl as _, Conn, lock_row, query};
