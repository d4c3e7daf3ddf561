//! Tests of the program that `cargo run` starts, and of rules for the workspace as a whole.
#![allow(clippy::too_many_lines, reason = "a test tells one story, in order")]

mod access_feed;
mod architecture;
mod clocks;
mod databases;
mod fail_over;
mod program;
mod protos;
