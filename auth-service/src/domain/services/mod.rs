//! Accounts of other services: their client ids, their secrets, and the tokens that they get.
//!
//! A service account is a user that is not a person. Use cases for people reject it.

pub(super) mod accounts;
pub(super) mod client_id;
pub(super) mod declared;
