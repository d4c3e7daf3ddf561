//! The lock and the limit that all changes of roles and permissions share.

use db::Conn;

use crate::{model::ReservedRole, store};

/// Maximum number of permissions of one role. GetMe and the access feed carry all of them.
pub(crate) const MAX_ROLE_PERMISSIONS: i64 = 1000;

/// Locks the catalogue and the permissions of all roles until the transaction ends, so that events
/// of the feed about a role match the tables. Must be called after the rows of users are locked.
pub(in crate::domain) async fn lock_policies(tx: &mut Conn) -> db::Result<()> {
    store::role_lock(tx, ReservedRole::Service).await
}
