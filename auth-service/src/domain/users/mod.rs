//! People: registration, login, profile, deletion, and what administrators do to them.
//!
//! These use cases ignore service accounts; [`people`] filters them out.

pub(super) mod accounts;
pub(super) mod administration;
pub(super) mod deletion;
pub(super) mod export;
pub(super) mod export_limits;
pub(super) mod first_admin;
pub(super) mod import;
pub(super) mod invitations;
pub(super) mod login;
pub(super) mod names;
pub(super) mod people;
pub(super) mod profile;
pub(super) mod reauthentication;
pub(super) mod registration;
pub(super) mod stale_keys;
