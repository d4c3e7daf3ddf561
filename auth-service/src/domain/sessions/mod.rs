//! Sessions: one for each device on which a user is logged in.
//!
//! [`Session`](crate::model::Session) decides what a refresh token is good for, without a database.
//! [`lifecycle`], [`refresh`] and [`logout`] run the transactions. Every end goes through [`ends`],
//! which publishes it.

pub(super) mod devices;
pub(super) mod ends;
pub(super) mod introspection;
pub(super) mod known_devices;
pub(super) mod lifecycle;
pub(super) mod lifetimes;
pub(super) mod logout;
pub(super) mod lost_revocations;
pub(super) mod of_user;
pub(super) mod plain_logins;
pub(super) mod refresh;
pub(super) mod restore;
pub(super) mod revocation;
pub(super) mod token_uses;
