//! auth-service as its clients see it, on both databases.
//!
//! The folders mirror those of `src/domain`. Beside them stand [`grpc`] for what every RPC has in
//! common, [`jobs`], and [`program`] for the binary as an operator meets it.
#![allow(clippy::too_many_lines, reason = "a test tells one story, in order")]

mod audit;
mod feed;
mod grpc;
mod jobs;
mod keys;
mod passwords;
mod program;
mod rbac;
mod services;
mod sessions;
mod support;
mod tokens;
mod users;

use auth_service::MIGRATIONS;
