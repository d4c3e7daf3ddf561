//! Tokens as texts: access tokens are signed, refresh and device tokens carry a MAC.
//!
//! What a token is good for is decided in `sessions`.

pub(super) mod access;
pub(super) mod device;
pub(super) mod refresh;
