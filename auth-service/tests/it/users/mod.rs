//! Registration, login, profile, and what administrators do to users.

pub(crate) mod calls;
pub(crate) mod login;

mod administration;
mod authority;
mod names;
mod profile;
mod registration;
