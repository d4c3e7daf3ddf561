//! Queries on `role_permissions`, `user_permissions` and `user_roles`: who holds what.

use base::ids::UserId;
use db::prelude::*;

use super::schema::{permissions, role_permissions, roles, user_permissions, user_roles, users};
use crate::{
    ids::{PermissionId, RoleId},
    model::ReservedRole,
};

/// Returns the names of the role's permissions, sorted.
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

/// Returns the names of all permissions, sorted.
pub(crate) async fn permission_names(conn: &mut Conn) -> db::Result<Vec<String>> {
    query!(conn, |c| permissions::table
        .order(permissions::name)
        .select(permissions::name)
        .load(c)
        .await)
}

/// Locks the role's row until the transaction ends.
pub(crate) async fn role_lock(conn: &mut Conn, role: ReservedRole) -> db::Result<()> {
    let row = lock_row!(
        conn,
        roles::table
            .filter(roles::code_name.eq(role.code_name()))
            .select(roles::code_name)
    )?;
    row.map(|_: String| ()).ok_or(db::Error::NotFound)
}

/// Returns whether an active user other than this one has the role.
pub(crate) async fn other_active_user_has_role(
    conn: &mut Conn,
    user_id: UserId,
    role: ReservedRole,
) -> db::Result<bool> {
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

/// Gives the user the role, unless they have it already. Returns false if there is no such role.
pub(crate) async fn user_role_assign(conn: &mut Conn, user_id: UserId, code_name: &str) -> db::Result<bool> {
    let Some(role_id) = role_id(conn, code_name).await? else {
        return Ok(false);
    };
    let values = (user_roles::user_id.eq(user_id), user_roles::role_id.eq(role_id));
    query!(conn, |c| diesel::insert_into(user_roles::table)
        .values(values)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(true)
}

/// Takes the role from the user. Returns whether they had it.
pub(crate) async fn user_role_unassign(conn: &mut Conn, user_id: UserId, code_name: &str) -> db::Result<bool> {
    let role = roles::table.filter(roles::code_name.eq(code_name)).select(roles::id);
    let delete = diesel::delete(
        user_roles::table
            .filter(user_roles::user_id.eq(user_id))
            .filter(user_roles::role_id.eq_any(role)),
    );
    query!(conn, |c| delete.execute(c).await).map(|rows| rows > 0)
}

/// Grants the permission to the user directly, unless they have it already. Returns false if there
/// is no such permission.
pub(crate) async fn user_permission_grant(conn: &mut Conn, user_id: UserId, name: &str) -> db::Result<bool> {
    let Some(permission_id) = permission_id(conn, name).await? else {
        return Ok(false);
    };
    let values = (
        user_permissions::user_id.eq(user_id),
        user_permissions::permission_id.eq(permission_id),
    );
    query!(conn, |c| diesel::insert_into(user_permissions::table)
        .values(values)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(true)
}

/// Revokes a direct grant. Returns whether there was one.
pub(crate) async fn user_permission_revoke(conn: &mut Conn, user_id: UserId, name: &str) -> db::Result<bool> {
    let permission = permissions::table
        .filter(permissions::name.eq(name))
        .select(permissions::id);
    let delete = diesel::delete(
        user_permissions::table
            .filter(user_permissions::user_id.eq(user_id))
            .filter(user_permissions::permission_id.eq_any(permission)),
    );
    query!(conn, |c| delete.execute(c).await).map(|rows| rows > 0)
}

/// Takes every role and every direct grant from the user.
pub(crate) async fn user_holdings_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    query!(conn, |c| diesel::delete(
        user_roles::table.filter(user_roles::user_id.eq(user_id))
    )
    .execute(c)
    .await)?;
    query!(conn, |c| diesel::delete(
        user_permissions::table.filter(user_permissions::user_id.eq(user_id))
    )
    .execute(c)
    .await)
    .map(|_| ())
}

/// Returns the users who have the role, ordered by id.
pub(crate) async fn users_with_role(conn: &mut Conn, code_name: &str) -> db::Result<Vec<UserId>> {
    query!(conn, |c| user_roles::table
        .inner_join(roles::table)
        .filter(roles::code_name.eq(code_name))
        .order(user_roles::user_id)
        .select(user_roles::user_id)
        .load(c)
        .await)
}

/// Returns the users to whom any of these permissions is granted directly, ordered by id.
pub(crate) async fn users_with_permissions(conn: &mut Conn, names: &[String]) -> db::Result<Vec<UserId>> {
    query!(conn, |c| user_permissions::table
        .inner_join(permissions::table)
        .filter(permissions::name.eq_any(names))
        .order(user_permissions::user_id)
        .select(user_permissions::user_id)
        .distinct()
        .load(c)
        .await)
}

/// Returns the code names of the roles that hold any of these permissions, sorted.
pub(crate) async fn roles_with_permissions(conn: &mut Conn, names: &[String]) -> db::Result<Vec<String>> {
    query!(conn, |c| role_permissions::table
        .inner_join(permissions::table)
        .inner_join(roles::table)
        .filter(permissions::name.eq_any(names))
        .order(roles::code_name)
        .select(roles::code_name)
        .distinct()
        .load(c)
        .await)
}

/// Counts the permissions that a role holds.
pub(crate) async fn role_permissions_count(conn: &mut Conn, role: RoleId) -> db::Result<i64> {
    query!(conn, |c| role_permissions::table
        .filter(role_permissions::role_id.eq(role))
        .count()
        .get_result(c)
        .await)
}

pub(crate) async fn role_permission_insert(conn: &mut Conn, role: RoleId, permission: PermissionId) -> db::Result<()> {
    let values = (
        role_permissions::role_id.eq(role),
        role_permissions::permission_id.eq(permission),
    );
    query!(conn, |c| diesel::insert_into(role_permissions::table)
        .values(values)
        .on_conflict_do_nothing()
        .execute(c)
        .await)
    .map(|_| ())
}

/// Takes every permission from the role.
pub(crate) async fn role_permissions_delete(conn: &mut Conn, role: RoleId) -> db::Result<()> {
    query!(conn, |c| diesel::delete(
        role_permissions::table.filter(role_permissions::role_id.eq(role))
    )
    .execute(c)
    .await)
    .map(|_| ())
}

pub(crate) async fn role_id(conn: &mut Conn, code_name: &str) -> db::Result<Option<RoleId>> {
    query!(conn, |c| roles::table
        .filter(roles::code_name.eq(code_name))
        .select(roles::id)
        .first(c)
        .await
        .optional())
}

pub(crate) async fn permission_id(conn: &mut Conn, name: &str) -> db::Result<Option<PermissionId>> {
    query!(conn, |c| permissions::table
        .filter(permissions::name.eq(name))
        .select(permissions::id)
        .first(c)
        .await
        .optional())
}

/// Locks the role's row until the transaction ends. Returns false if there is no such role.
pub(crate) async fn role_lock_by_code_name(conn: &mut Conn, code_name: &str) -> db::Result<bool> {
    let row = lock_row!(
        conn,
        roles::table
            .filter(roles::code_name.eq(code_name))
            .select(roles::code_name)
    )?;
    Ok(row.is_some_and(|_: String| true))
}

/// Takes the role from all users.
pub(crate) async fn role_holders_delete(conn: &mut Conn, role: RoleId) -> db::Result<()> {
    query!(conn, |c| diesel::delete(
        user_roles::table.filter(user_roles::role_id.eq(role))
    )
    .execute(c)
    .await)
    .map(|_| ())
}
