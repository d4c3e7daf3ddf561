//! Queries on `new_role_permissions`: existing permissions that a new built-in role is to be given
//! when their service next declares it as a default role.

use db::prelude::*;

use super::schema::{new_role_permissions, permissions, resources};
use crate::ids::{PermissionId, RoleId};

/// Removes the mark of this permission for the role. Returns whether there was one.
pub(crate) async fn new_role_permission_take(
    conn: &mut Conn,
    role_id: RoleId,
    permission_id: PermissionId,
) -> db::Result<bool> {
    let mark = new_role_permissions::table.find((role_id, permission_id));
    query!(conn, |c| diesel::delete(mark).execute(c).await).map(|rows| rows > 0)
}

/// Removes the marks of all permissions on the resources of this owner for the role.
pub(crate) async fn new_role_permissions_clear_of(conn: &mut Conn, role_id: RoleId, owner: &str) -> db::Result<()> {
    let owned = resources::table
        .filter(resources::owner.eq(owner))
        .select(resources::id);
    let owned = permissions::table
        .filter(permissions::resource_id.eq_any(owned))
        .select(permissions::id);
    let marks = new_role_permissions::table
        .filter(new_role_permissions::role_id.eq(role_id))
        .filter(new_role_permissions::permission_id.eq_any(owned));
    query!(conn, |c| diesel::delete(marks).execute(c).await).map(|_| ())
}

/// Removes all marks of the role.
pub(crate) async fn new_role_permissions_clear(conn: &mut Conn, role_id: RoleId) -> db::Result<()> {
    let marks = new_role_permissions::table.filter(new_role_permissions::role_id.eq(role_id));
    query!(conn, |c| diesel::delete(marks).execute(c).await).map(|_| ())
}
