//! Rules that all RPCs share: policies, limits, cookies, TLS.

mod contract;
mod cookies;
mod invalid;
mod messages;
mod policy_matrix;
mod server;
pub(crate) mod stale_tokens;
