//! The roles of the catalogue, with the permissions that each holds.

use base::page::PageRequest;
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        rbac::{
            authority,
            catalog::{CatalogEntry as _, EntryChange, Rbac, add, describe, existing, page_of},
            lock::lock_policies,
        },
        request_context::RequestContext,
    },
    ids::{RoleId, RoleKind},
    model::{EntryNames, ReservedRole, Role},
    store,
};

/// A role and the permissions that it holds.
#[derive(Clone, Debug)]
pub(crate) struct RoleWithPermissions {
    pub(crate) role: Role,
    /// Names of the permissions, sorted.
    pub(crate) permissions: Vec<String>,
}

impl Rbac {
    /// Creates a role that holds these permissions.
    pub(crate) async fn create_role(
        &self,
        context: &RequestContext,
        names: EntryNames,
        permissions: Vec<String>,
    ) -> Result<RoleWithPermissions, Error> {
        let event = AuditEvent::new(Role::CREATE)
            .target(Role::TYPE, &names.code_name)
            .detail("permissions", permissions.join(" "));
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                authority::ensure_may_give(tx, context, &permissions).await?;
                let now = self.clock.now();
                let role: Role = add(tx, names, now).await?;
                set_permissions(tx, role.id, &permissions).await?;
                let role = with_permissions(tx, role).await?;
                event.record(tx, context, now).await?;
                feed::publish(tx, vec![role.change()], now).await?;
                Ok(role)
            })
        })
        .await
    }

    /// Finds a role by its code name.
    pub(crate) async fn role(&self, code_name: &str) -> Result<RoleWithPermissions, Error> {
        existing_with_permissions(&mut self.db.read().await?, code_name).await
    }

    /// Lists a page of roles, with the token of the next page.
    pub(crate) async fn roles(
        &self,
        page: &PageRequest<RoleKind>,
        query: &str,
    ) -> Result<(Vec<RoleWithPermissions>, String), Error> {
        let mut conn = self.db.read().await?;
        let (entries, next) = page_of(&mut conn, page, query).await?;
        let mut roles = Vec::with_capacity(entries.len());
        for role in entries {
            roles.push(with_permissions(&mut conn, role).await?);
        }
        Ok((roles, next))
    }

    /// Changes the name and the description of a role.
    pub(crate) async fn update_role(
        &self,
        context: &RequestContext,
        code_name: &str,
        change: &EntryChange,
    ) -> Result<RoleWithPermissions, Error> {
        let event = AuditEvent::new(Role::UPDATE).target(Role::TYPE, code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                authority::ensure_still_good(tx, context).await?;
                let role: Role = existing(tx, code_name).await?;
                ensure_not_reserved(code_name)?;
                authority::ensure_may_change_role(tx, context, code_name).await?;
                describe(tx, &role, code_name, change).await?;
                event.record(tx, context, self.clock.now()).await?;
                existing_with_permissions(tx, code_name).await
            })
        })
        .await
    }

    /// Replaces the permissions of a role by exactly these.
    pub(crate) async fn set_role_permissions(
        &self,
        context: &RequestContext,
        code_name: &str,
        permissions: Vec<String>,
    ) -> Result<RoleWithPermissions, Error> {
        let event = AuditEvent::new("role.set_permissions").target("role", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                authority::ensure_still_good(tx, context).await?;
                if ReservedRole::Superuser.is(code_name) {
                    return Err(Error::Reserved(
                        "`superuser` holds every permission and cannot be changed",
                    ));
                }
                let before = existing_with_permissions(tx, code_name).await?;
                let gained = difference(&permissions, &before.permissions);
                let lost = difference(&before.permissions, &permissions);
                if gained.is_empty() && lost.is_empty() {
                    feed::settle(tx).await?;
                    return Ok(before);
                }
                authority::ensure_may_change_role(tx, context, code_name).await?;
                authority::ensure_may_give(tx, context, &gained).await?;
                // From now on, declarations leave the role as it is.
                store::new_role_permissions_clear(tx, before.role.id).await?;
                set_permissions(tx, before.role.id, &permissions).await?;
                let after = with_permissions(tx, before.role).await?;
                let now = self.clock.now();
                event
                    .detail("gained", gained.join(" "))
                    .detail("lost", lost.join(" "))
                    .record(tx, context, now)
                    .await?;
                feed::publish(tx, vec![after.change()], now).await?;
                Ok(after)
            })
        })
        .await
    }
}

impl RoleWithPermissions {
    /// Returns the event for the followers of the feed.
    fn change(&self) -> Change {
        Change::RoleChanged {
            code_name: self.role.code_name.clone(),
            permissions: self.permissions.clone(),
        }
    }
}

/// Refuses to rename or delete a built-in role.
pub(super) fn ensure_not_reserved(code_name: &str) -> Result<(), Error> {
    match ReservedRole::parse(code_name) {
        Some(_) => Err(Error::Reserved(
            "this role is built in and cannot be renamed or deleted",
        )),
        None => Ok(()),
    }
}

async fn existing_with_permissions(conn: &mut Conn, code_name: &str) -> Result<RoleWithPermissions, Error> {
    let role = existing(conn, code_name).await?;
    with_permissions(conn, role).await
}

async fn with_permissions(conn: &mut Conn, role: Role) -> Result<RoleWithPermissions, Error> {
    let permissions = store::role_permission_names(conn, &role.code_name).await?;
    Ok(RoleWithPermissions { role, permissions })
}

async fn set_permissions(tx: &mut Conn, role: RoleId, names: &[String]) -> Result<(), Error> {
    store::role_permissions_delete(tx, role).await?;
    for name in names {
        let id = store::permission_id(tx, name).await?;
        let id = id.ok_or_else(|| Error::PermissionNotFound(name.clone()))?;
        store::role_permission_insert(tx, role, id).await?;
    }
    Ok(())
}

fn difference(of: &[String], without: &[String]) -> Vec<String> {
    of.iter().filter(|name| !without.contains(name)).cloned().collect()
}
