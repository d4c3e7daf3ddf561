//! Shared parts of everything that changes roles and permissions.

use db::Conn;

use crate::{model::ReservedRole, store};

/// Permissions that one role may hold. GetMe and the access feed carry them.
pub(crate) const MAX_ROLE_PERMISSIONS: i64 = 1000;

/// Locks what there is to be held and what each role holds until the transaction ends, so that what
/// the feed says of a role is what the tables say. To be called after the rows of users are locked.
pub(in crate::domain) async fn lock_policies(tx: &mut Conn) -> db::Result<()> {
    store::role_lock(tx, ReservedRole::Service).await
}
