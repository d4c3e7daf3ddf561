//! Identity providers: what the operator's file says of them, their keys, and their ID tokens.
//!
//! Nothing here knows the database or the users. The rules about logins with an ID token are in
//! `domain`.

mod claims;
mod file;
#[cfg(test)]
mod fuzz;
mod key_cache;
mod keys;
mod provider;
mod spec;

pub(crate) use self::{
    file::parse,
    provider::{IdentityProviders, Unverified},
    spec::ProviderSpec,
};
