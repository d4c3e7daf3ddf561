//! Accounts of other services: their client ids, their secrets, and the tokens that they get.
//!
//! A service account is a user who is no person. The use cases of people refuse it.

pub(super) mod accounts;
pub(super) mod client_id;
pub(super) mod declared;
