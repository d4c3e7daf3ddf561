//! Rules for logins with identity providers.

use crate::{domain::identities::nonces::ExternalNonces, providers::IdentityProviders};

/// The identity providers, and the nonces of logins with them.
#[derive(Clone, Debug)]
pub(crate) struct Identities {
    pub(crate) providers: IdentityProviders,
    pub(crate) nonces: ExternalNonces,
}
