//! Tokens in text form: access tokens are signed, refresh and device tokens carry a MAC.
//!
//! `sessions` decides whether a refresh token is still valid. The crate `access` verifies access
//! tokens.

pub(super) mod access;
pub(super) mod device;
pub(super) mod refresh;
