//! `resources`, `actions`, `permissions` and `roles`.

use base::{clock::Timestamp, page::PageRequest};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{actions, permissions, resources, roles},
};
use crate::{
    ids::{ActionId, ActionKind, PermissionId, PermissionKind, ResourceId, ResourceKind, RoleId, RoleKind},
    model::{Action, Permission, Resource, Role},
};

columns!(insertable Resource in resources {
    id: ResourceId,
    code_name: String,
    name: String,
    description: String,
    owner: Option<String>,
    create_time: Timestamp,
});

columns!(insertable Action in actions {
    id: ActionId,
    code_name: String,
    name: String,
    description: String,
    create_time: Timestamp,
});

columns!(insertable Role in roles {
    id: RoleId,
    code_name: String,
    name: String,
    description: String,
    create_time: Timestamp,
});

columns!(insertable Permission in permissions {
    id: PermissionId,
    resource_id: ResourceId,
    action_id: ActionId,
    name: String,
    description: String,
    is_declared: bool,
    create_time: Timestamp,
});

/// Functions that a table of named things has.
macro_rules! named {
    ($table:ident, $row:ident, $id:ident, $kind:ident, $key:ident,
     $insert:ident, $by_key:ident, $by_name:ident, $list:ident, $describe:ident, $delete:ident) => {
        pub(crate) async fn $insert(conn: &mut Conn, row: &$row) -> db::Result<()> {
            query!(conn, |c| diesel::insert_into($table::table)
                .values(row)
                .execute(c)
                .await)
            .map(|_| ())
        }

        pub(crate) async fn $by_key(conn: &mut Conn, key: &str) -> db::Result<Option<$row>> {
            query!(conn, |c| $table::table
                .filter($table::$key.eq(key))
                .select($row::as_select())
                .first(c)
                .await
                .optional())
        }

        /// The name for people may be taken by another one.
        pub(crate) async fn $by_name(conn: &mut Conn, name: &str) -> db::Result<Option<$row>> {
            query!(conn, |c| $table::table
                .filter($table::name.eq(name))
                .select($row::as_select())
                .first(c)
                .await
                .optional())
        }

        /// The oldest first.
        pub(crate) async fn $list(conn: &mut Conn, page: &PageRequest<$kind>) -> db::Result<Vec<$row>> {
            query!(conn, |c| {
                let mut listed = $table::table
                    .order(($table::create_time, $table::id))
                    .select($row::as_select())
                    .limit(page.limit())
                    .into_boxed();
                if let Some(after) = page.after {
                    listed = listed.filter(
                        $table::create_time
                            .gt(after.time)
                            .or($table::create_time.eq(after.time).and($table::id.gt(after.id))),
                    );
                }
                listed.load(c).await
            })
        }

        pub(crate) async fn $describe(conn: &mut Conn, id: $id, name: &str, description: &str) -> db::Result<()> {
            let update = diesel::update($table::table.find(id))
                .set(($table::name.eq(name), $table::description.eq(description)));
            query!(conn, |c| update.cached().execute(c).await).map(|_| ())
        }

        /// What belongs to it goes with it.
        pub(crate) async fn $delete(conn: &mut Conn, id: $id) -> db::Result<()> {
            query!(conn, |c| diesel::delete($table::table.find(id)).execute(c).await).map(|_| ())
        }
    };
}

named!(
    resources,
    Resource,
    ResourceId,
    ResourceKind,
    code_name,
    resource_insert,
    resource_by_code_name,
    resource_by_name,
    resources_list,
    resource_describe,
    resource_delete
);
named!(
    actions,
    Action,
    ActionId,
    ActionKind,
    code_name,
    action_insert,
    action_by_code_name,
    action_by_name,
    actions_list,
    action_describe,
    action_delete
);
named!(
    roles,
    Role,
    RoleId,
    RoleKind,
    code_name,
    role_insert,
    role_by_code_name,
    role_by_name,
    roles_list,
    role_describe,
    role_delete
);

pub(crate) async fn resource_set_owner(conn: &mut Conn, id: ResourceId, owner: &str) -> db::Result<()> {
    let update = diesel::update(resources::table.find(id)).set(resources::owner.eq(owner));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// How many resources this owner has declared.
pub(crate) async fn resources_count_of(conn: &mut Conn, owner: &str) -> db::Result<i64> {
    query!(conn, |c| resources::table
        .filter(resources::owner.eq(owner))
        .count()
        .get_result(c)
        .await)
}

/// Counts the permissions of the resources that this owner has, without those for the action `all`.
pub(crate) async fn permissions_count_of(conn: &mut Conn, owner: &str, all: &str) -> db::Result<i64> {
    query!(conn, |c| permissions::table
        .inner_join(resources::table)
        .inner_join(actions::table)
        .filter(resources::owner.eq(owner))
        .filter(actions::code_name.ne(all))
        .count()
        .get_result(c)
        .await)
}

/// What this owner has declared is nobody's.
pub(crate) async fn resources_release(conn: &mut Conn, owner: &str) -> db::Result<()> {
    let owned: Vec<ResourceId> = query!(conn, |c| resources::table
        .filter(resources::owner.eq(owner))
        .select(resources::id)
        .load(c)
        .await)?;
    let permissions = permissions::table.filter(permissions::resource_id.eq_any(&owned));
    let update = diesel::update(permissions).set(permissions::is_declared.eq(false));
    query!(conn, |c| update.cached().execute(c).await)?;
    let update =
        diesel::update(resources::table.filter(resources::owner.eq(owner))).set(resources::owner.eq(None::<String>));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Code names of all roles, sorted.
pub(crate) async fn role_code_names(conn: &mut Conn) -> db::Result<Vec<String>> {
    query!(conn, |c| roles::table
        .order(roles::code_name)
        .select(roles::code_name)
        .load(c)
        .await)
}

pub(crate) async fn permission_insert(conn: &mut Conn, row: &Permission) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(permissions::table)
        .values(row)
        .execute(c)
        .await)
    .map(|_| ())
}

pub(crate) async fn permission_by_name(conn: &mut Conn, name: &str) -> db::Result<Option<Permission>> {
    query!(conn, |c| permissions::table
        .filter(permissions::name.eq(name))
        .select(Permission::as_select())
        .first(c)
        .await
        .optional())
}

/// The oldest first; of one resource where it is given.
pub(crate) async fn permissions_list(
    conn: &mut Conn,
    page: &PageRequest<PermissionKind>,
    resource: Option<ResourceId>,
) -> db::Result<Vec<Permission>> {
    query!(conn, |c| {
        let mut listed = permissions::table
            .order((permissions::create_time, permissions::id))
            .select(Permission::as_select())
            .limit(page.limit())
            .into_boxed();
        if let Some(resource) = resource {
            listed = listed.filter(permissions::resource_id.eq(resource));
        }
        if let Some(after) = page.after {
            listed = listed.filter(
                permissions::create_time.gt(after.time).or(permissions::create_time
                    .eq(after.time)
                    .and(permissions::id.gt(after.id))),
            );
        }
        listed.load(c).await
    })
}

pub(crate) async fn permission_describe(conn: &mut Conn, id: PermissionId, description: &str) -> db::Result<()> {
    let update = diesel::update(permissions::table.find(id)).set(permissions::description.eq(description));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn permission_set_declared(conn: &mut Conn, id: PermissionId) -> db::Result<()> {
    let update = diesel::update(permissions::table.find(id)).set(permissions::is_declared.eq(true));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn permission_delete(conn: &mut Conn, id: PermissionId) -> db::Result<()> {
    query!(conn, |c| diesel::delete(permissions::table.find(id)).execute(c).await).map(|_| ())
}

/// The permissions of a resource or of an action, by name.
pub(crate) async fn permissions_of(
    conn: &mut Conn,
    resource: Option<ResourceId>,
    action: Option<ActionId>,
) -> db::Result<Vec<Permission>> {
    query!(conn, |c| {
        let mut found = permissions::table
            .order(permissions::name)
            .select(Permission::as_select())
            .into_boxed();
        if let Some(resource) = resource {
            found = found.filter(permissions::resource_id.eq(resource));
        }
        if let Some(action) = action {
            found = found.filter(permissions::action_id.eq(action));
        }
        found.load(c).await
    })
}
