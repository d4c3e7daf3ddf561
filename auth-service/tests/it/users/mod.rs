//! Registration, login, profiles, and user administration.

pub(crate) mod calls;
pub(crate) mod login;

mod administration;
mod authority;
mod export;
mod names;
mod profile;
mod registration;
