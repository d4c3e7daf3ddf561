//! Tests of auth-service through its public interfaces, on both databases.
//!
//! The folders mirror those of `src/domain`. In addition, [`grpc`] tests what all RPCs have in
//! common, [`jobs`] tests scheduled jobs, and [`program`] tests the binary as an operator runs it.
#![allow(clippy::too_many_lines, reason = "a test tells one story, in order")]

mod audit;
mod factors;
mod feed;
mod grpc;
mod guests;
mod import;
mod jobs;
mod keys;
mod mail;
mod passwords;
mod program;
mod rbac;
mod services;
mod sessions;
mod support;
mod tokens;
mod users;

use auth_service::MIGRATIONS;
