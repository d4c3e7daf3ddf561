//! Queries on `permissions`.

use base::{clock::Timestamp, page::PageRequest};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{actions, permissions, resources},
};
use crate::{
    ids::{ActionId, PermissionId, PermissionKind, ResourceId},
    model::Permission,
};

columns!(insertable Permission in permissions {
    id: PermissionId,
    resource_id: ResourceId,
    action_id: ActionId,
    name: String,
    description: String,
    is_declared: bool,
    create_time: Timestamp,
});

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

/// Lists a page of permissions, oldest first, of all resources or of one.
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

/// Returns the permissions of a resource or of an action, ordered by name.
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

/// Returns the owners of the resources of those permissions that are declared, each once.
pub(crate) async fn permissions_owners(conn: &mut Conn, ids: &[PermissionId]) -> db::Result<Vec<String>> {
    let owners: Vec<Option<String>> = query!(conn, |c| permissions::table
        .inner_join(resources::table)
        .filter(permissions::id.eq_any(ids))
        .filter(permissions::is_declared)
        .filter(resources::owner.is_not_null())
        .select(resources::owner)
        .distinct()
        .load(c)
        .await)?;
    Ok(owners.into_iter().flatten().collect())
}

/// Counts the permissions on the resources of this owner, except those for the action `all`.
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
