//! auth-service as its clients see it, on both databases.

mod access_feed;
mod account;
mod attempts;
mod callers;
mod contract;
mod keys;
mod login;
mod logout;
mod policy_matrix;
mod program;
mod registration;
mod rotation;
mod server;
mod support;
mod users;
