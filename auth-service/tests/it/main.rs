//! auth-service as its clients see it, on both databases.

mod access_feed;
mod account;
mod attempts;
mod audit;
mod callers;
mod contract;
mod grants;
mod keys;
mod login;
mod logout;
mod policies;
mod policy_matrix;
mod processes;
mod program;
mod rbac;
mod registration;
mod restore;
mod rotation;
mod rotation_races;
mod server;
mod sessions;
mod support;
mod users;
