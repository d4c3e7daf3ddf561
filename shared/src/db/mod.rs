//! Storage on SQLite and PostgreSQL.

pub mod sql_types;
