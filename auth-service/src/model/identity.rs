//! Identities of users at other providers.

use base::{clock::Timestamp, ids::UserId};

use crate::ids::IdentityId;

/// An identity at a provider with which a user can log in. The issuer and the subject are its key.
#[derive(Clone, Debug)]
pub(crate) struct UserIdentity {
    pub(crate) id: IdentityId,
    pub(crate) user_id: UserId,
    /// Issuer of the ID tokens.
    pub(crate) issuer: String,
    /// Id of the user at the provider.
    pub(crate) subject: String,
    /// Name of the provider when the identity was linked.
    pub(crate) provider: String,
    pub(crate) create_time: Timestamp,
    /// Time of the last login with it; `None` before the first one.
    pub(crate) last_use_time: Option<Timestamp>,
}
