//! Identities at other providers: login with an ID token, and the identities that are linked to an
//! account.
//!
//! The key of an identity is the issuer and the subject of its ID tokens. An e-mail address never
//! leads from an ID token to an account: whoever registers somebody else's address first, at the
//! provider or here, gains nothing by it.

pub(super) mod creation;
pub(super) mod deletion;
pub(super) mod linking;
pub(super) mod login;
pub(super) mod nonces;
pub(super) mod proof;
pub(super) mod purge;
pub(super) mod recent_login;
pub(super) mod rules;
pub(super) mod start;
pub(super) mod upgrade;
