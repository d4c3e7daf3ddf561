//! Tokens in text form: access tokens are signed, refresh and device tokens carry a MAC.
//!
//! Whether a refresh token is still good is decided in `sessions`. Access tokens are verified by
//! the crate `access`.

pub(super) mod access;
pub(super) mod device;
pub(super) mod refresh;
