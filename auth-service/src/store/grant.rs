//! `role_permissions` and `user_permissions`: who holds which permission.

use shared::db::prelude::*;
use shared::{db, ids::UserId};

use super::{
    Role,
    schema::{permissions, role_permissions, roles, user_permissions, user_roles, users},
};

/// Role and permission, of every role that the user has; sorted.
pub(crate) async fn user_role_permissions(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<(String, String)>> {
    query!(conn, |c| user_roles::table
        .inner_join(roles::table.inner_join(role_permissions::table.inner_join(permissions::table)))
        .filter(user_roles::user_id.eq(user_id))
        .order((roles::code_name, permissions::name))
        .select((roles::code_name, permissions::name))
        .load(c)
        .await)
}

/// Names of the permissions that are granted to the user directly, sorted.
pub(crate) async fn user_permission_names(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<String>> {
    query!(conn, |c| user_permissions::table
        .inner_join(permissions::table)
        .filter(user_permissions::user_id.eq(user_id))
        .order(permissions::name)
        .select(permissions::name)
        .load(c)
        .await)
}

/// Names of the role's permissions, sorted.
pub(crate) async fn role_permission_names(conn: &mut Conn, code_name: &str) -> db::Result<Vec<String>> {
    query!(conn, |c| role_permissions::table
        .inner_join(roles::table)
        .inner_join(permissions::table)
        .filter(roles::code_name.eq(code_name))
        .order(permissions::name)
        .select(permissions::name)
        .load(c)
        .await)
}

/// Names of all permissions, sorted.
pub(crate) async fn permission_names(conn: &mut Conn) -> db::Result<Vec<String>> {
    query!(conn, |c| permissions::table
        .order(permissions::name)
        .select(permissions::name)
        .load(c)
        .await)
}

/// Locks the role's row until the transaction ends.
pub(crate) async fn role_lock(conn: &mut Conn, role: Role) -> db::Result<()> {
    let row = lock_row!(
        conn,
        roles::table
            .filter(roles::code_name.eq(role.code_name()))
            .select(roles::code_name)
    )?;
    row.map(|_: String| ()).ok_or(db::Error::NotFound)
}

/// Whether an active user other than this one has the role.
pub(crate) async fn other_active_user_has_role(conn: &mut Conn, user_id: UserId, role: Role) -> db::Result<bool> {
    query!(conn, |c| {
        let holders = user_roles::table
            .inner_join(roles::table)
            .inner_join(users::table)
            .filter(roles::code_name.eq(role.code_name()))
            .filter(users::is_active.eq(true))
            .filter(users::id.ne(user_id));
        diesel::select(diesel::dsl::exists(holders)).get_result(c).await
    })
}
