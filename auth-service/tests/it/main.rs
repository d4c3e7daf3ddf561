//! auth-service as its clients see it, on both databases.

mod access_feed;
mod account;
mod attempts;
mod contract;
mod keys;
mod login;
mod logout;
mod program;
mod registration;
mod rotation;
mod server;
mod sessions;
mod support;
mod users;
