//! The end of resources, actions, permissions and roles. What a service has declared, or what is built in, stays; with force the
//! others are taken from everybody who has them.
//!
//! Users come first in the order of locks, and who they are is only known once everything is locked: so what was found is looked at
//! again, and the call may be repeated where it has changed meanwhile.

use base::{clock::Timestamp, ids::UserId};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        rbac::{
            authority,
            catalog::{Rbac, is_reserved_action, is_reserved_role},
            code_name::PermissionName,
            lock::lock_policies,
        },
        request_context::RequestContext,
        sessions::revocation,
    },
    store::{self, ActionRow, PermissionRow, ResourceRow},
};

impl Rbac {
    /// Deletes a resource with its permissions.
    pub(crate) async fn delete_resource(
        &self,
        context: &RequestContext,
        code_name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("resource.delete").target("resource", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                authority::ensure_superuser(tx, context).await?;
                let (_, permissions) = resource(tx, code_name).await?;
                let holders = lock(tx, &permissions).await?;
                let (row, permissions) = resource(tx, code_name).await?;
                let loss = Loss::prepare(tx, context, &permissions, holders, force).await?;
                store::resource_delete(tx, row.id).await?;
                loss.finish(tx, context, event, self.clock.now()).await
            })
        })
        .await
    }

    /// Deletes an action with its permissions.
    pub(crate) async fn delete_action(
        &self,
        context: &RequestContext,
        code_name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("action.delete").target("action", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                authority::ensure_superuser(tx, context).await?;
                let (_, permissions) = action(tx, code_name).await?;
                let holders = lock(tx, &permissions).await?;
                let (row, permissions) = action(tx, code_name).await?;
                let loss = Loss::prepare(tx, context, &permissions, holders, force).await?;
                store::action_delete(tx, row.id).await?;
                loss.finish(tx, context, event, self.clock.now()).await
            })
        })
        .await
    }

    /// Deletes a permission.
    pub(crate) async fn delete_permission(
        &self,
        context: &RequestContext,
        name: &PermissionName,
        force: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("permission.delete").target("permission", name);
        recording_refusals(self, context, event.clone(), async {
            let name = name.to_string();
            write_tx!(self.db, |tx| {
                let row = permission(tx, &name).await?;
                let holders = lock(tx, &[row]).await?;
                let row = permission(tx, &name).await?;
                let id = row.id;
                let loss = Loss::prepare(tx, context, &[row], holders, force).await?;
                store::permission_delete(tx, id).await?;
                loss.finish(tx, context, event, self.clock.now()).await
            })
        })
        .await
    }

    /// Deletes a role. With `force` it is taken from everybody who has it.
    pub(crate) async fn delete_role(
        &self,
        context: &RequestContext,
        code_name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("role.delete").target("role", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let row = store::role_by_code_name(tx, code_name).await?;
                let row = row.ok_or_else(|| Error::RoleNotFound(code_name.to_owned()))?;
                if is_reserved_role(code_name) {
                    return Err(Error::Reserved("this role is built in and cannot be deleted"));
                }
                let holders = store::users_with_role(tx, code_name).await?;
                if !holders.is_empty() && !force {
                    return Err(Error::InUse);
                }
                for holder in &holders {
                    store::user_lock(tx, *holder).await?;
                }
                lock_policies(tx).await?;
                // Whoever gives the role to somebody waits here.
                if !store::role_lock_by_code_name(tx, code_name).await?
                    || store::users_with_role(tx, code_name).await? != holders
                {
                    return Err(meanwhile());
                }
                let mut changes = Vec::new();
                for holder in &holders {
                    authority::ensure_may_act_on(tx, context, *holder).await?;
                }
                authority::ensure_may_change_role(tx, context, code_name).await?;
                for holder in holders {
                    changes.push(revocation::make_stale(tx, holder).await?.1);
                }
                store::role_holders_delete(tx, row.id).await?;
                store::role_delete(tx, row.id).await?;
                let now = self.clock.now();
                event.detail("holders", changes.len()).record(tx, context, now).await?;
                changes.push(Change::RoleDeleted {
                    code_name: code_name.to_owned(),
                });
                feed::publish(tx, changes, now).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Who loses what when permissions are deleted.
struct Loss {
    changes: Vec<Change>,
    roles: Vec<String>,
}

impl Loss {
    /// Makes the tokens of those stale who hold one of them directly: these users, whose rows are locked.
    async fn prepare(
        tx: &mut Conn,
        context: &RequestContext,
        permissions: &[PermissionRow],
        holders: Vec<UserId>,
        force: bool,
    ) -> Result<Self, Error> {
        let names = names(permissions);
        if store::users_with_permissions(tx, &names).await? != holders {
            return Err(meanwhile());
        }
        let roles = store::roles_with_permissions(tx, &names).await?;
        let is_held = !(holders.is_empty() && roles.is_empty());
        if is_held && !force {
            return Err(Error::InUse);
        }
        let mut changes = Vec::new();
        // Every check comes first: the actor may be one of the holders.
        for holder in &holders {
            authority::ensure_may_act_on(tx, context, *holder).await?;
        }
        authority::ensure_may_give(tx, context, &names).await?;
        for role in &roles {
            authority::ensure_may_change_role(tx, context, role).await?;
        }
        for holder in holders {
            changes.push(revocation::make_stale(tx, holder).await?.1);
        }
        Ok(Self { changes, roles })
    }

    /// After the deletion.
    async fn finish(
        mut self,
        tx: &mut Conn,
        context: &RequestContext,
        event: AuditEvent,
        now: Timestamp,
    ) -> Result<(), Error> {
        event
            .detail("roles", self.roles.join(" "))
            .record(tx, context, now)
            .await?;
        for code_name in self.roles {
            let permissions = store::role_permission_names(tx, &code_name).await?;
            self.changes.push(Change::RoleChanged { code_name, permissions });
        }
        feed::publish(tx, self.changes, now).await?;
        Ok(())
    }
}

/// Locks the users who hold one of these directly, in the order of their ids, and then what roles hold. Gives those users.
async fn lock(tx: &mut Conn, permissions: &[PermissionRow]) -> Result<Vec<UserId>, Error> {
    let holders = store::users_with_permissions(tx, &names(permissions)).await?;
    for holder in &holders {
        store::user_lock(tx, *holder).await?;
    }
    lock_policies(tx).await?;
    Ok(holders)
}

/// A resource that may be deleted, and its permissions.
async fn resource(tx: &mut Conn, code_name: &str) -> Result<(ResourceRow, Vec<PermissionRow>), Error> {
    let row = store::resource_by_code_name(tx, code_name).await?;
    let row = row.ok_or_else(|| Error::ResourceNotFound(code_name.to_owned()))?;
    if row.owner.is_some() {
        return Err(Error::Reserved(
            "a service has declared this resource, so it cannot be deleted",
        ));
    }
    let permissions = store::permissions_of(tx, Some(row.id), None).await?;
    Ok((row, permissions))
}

/// An action that may be deleted, and its permissions.
async fn action(tx: &mut Conn, code_name: &str) -> Result<(ActionRow, Vec<PermissionRow>), Error> {
    let row = store::action_by_code_name(tx, code_name).await?;
    let row = row.ok_or_else(|| Error::ActionNotFound(code_name.to_owned()))?;
    let permissions = store::permissions_of(tx, None, Some(row.id)).await?;
    if is_reserved_action(code_name) || permissions.iter().any(|permission| permission.is_declared) {
        return Err(Error::Reserved(
            "this action is built in or was declared by a service, so it cannot be deleted",
        ));
    }
    Ok((row, permissions))
}

/// A permission that may be deleted.
async fn permission(tx: &mut Conn, name: &str) -> Result<PermissionRow, Error> {
    let row = store::permission_by_name(tx, name).await?;
    let row = row.ok_or_else(|| Error::PermissionNotFound(name.to_owned()))?;
    if row.is_declared {
        return Err(Error::Reserved(
            "a service has declared this permission, so it cannot be deleted",
        ));
    }
    Ok(row)
}

fn names(permissions: &[PermissionRow]) -> Vec<String> {
    permissions.iter().map(|permission| permission.name.clone()).collect()
}

fn meanwhile() -> Error {
    db::Error::Conflict("its holders changed in the meantime".to_owned()).into()
}
