//! The caller of a stream, for checks that go on after the call was let through.

use std::sync::{Arc, OnceLock};

use crate::{policy::Permission, token::Principal};

/// The caller of a stream and the permission that the RPC requires. The policy layer sets it when
/// it lets the call through.
#[derive(Clone, Debug, Default)]
pub struct StreamCaller(Arc<OnceLock<(Arc<Principal>, Option<Permission>)>>);

impl StreamCaller {
    /// Sets the caller, and the permission that the RPC requires. The first one stays.
    pub(crate) fn set(&self, principal: &Arc<Principal>, permission: Option<&Permission>) {
        let _ = self.0.set((Arc::clone(principal), permission.cloned()));
    }

    /// Returns the caller and the required permission, or `None` if the call was anonymous or was
    /// refused.
    pub fn get(&self) -> Option<(Arc<Principal>, Option<Permission>)> {
        self.0.get().cloned()
    }
}
