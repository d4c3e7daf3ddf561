//! The program that `cargo run` starts, and what holds for the workspace as a whole.

mod access_feed;
mod architecture;
mod clocks;
mod databases;
mod fail_over;
mod program;
mod protos;
