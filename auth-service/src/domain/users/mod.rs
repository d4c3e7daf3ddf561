//! People: registration, login, profile, deletion, and what administrators do to them.
//!
//! A user who stands for a service is none of these use cases' business; [`people`] leaves it out.

pub(super) mod accounts;
pub(super) mod administration;
pub(super) mod deletion;
pub(super) mod first_admin;
pub(super) mod login;
pub(super) mod names;
pub(super) mod people;
pub(super) mod profile;
pub(super) mod registration;
pub(super) mod stale_keys;
