//! Caller of a stream, for checks that continue after the call was admitted.

use std::sync::{Arc, OnceLock};

use crate::{policy::Permission, token::Principal};

/// Caller of a stream and the permission that the RPC requires. The policy layer sets both for
/// every call with a valid token, before it decides whether to admit the call.
#[derive(Clone, Debug, Default)]
pub struct StreamCaller(Arc<OnceLock<(Arc<Principal>, Option<Permission>)>>);

impl StreamCaller {
    /// Sets the caller and the permission that the RPC requires. Only the first call has an effect.
    pub(crate) fn set(&self, principal: &Arc<Principal>, permission: Option<&Permission>) {
        let _ = self.0.set((Arc::clone(principal), permission.cloned()));
    }

    /// Returns the caller and the required permission, or `None` if the call had no valid token.
    pub fn get(&self) -> Option<(Arc<Principal>, Option<Permission>)> {
        self.0.get().cloned()
    }
}
