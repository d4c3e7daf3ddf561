//! What all RPCs have in common: policies, limits, cookies, TLS.

mod contract;
mod cookies;
mod invalid;
mod messages;
mod policy_matrix;
mod server;
