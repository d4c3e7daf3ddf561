//! Deletion of resources, actions, permissions and roles. An entry that is built in, or declared by
//! a service that still has an account, cannot be deleted. With `force`, the others are also taken
//! from everyone who holds them.
//!
//! The rows of users are locked before anything else, but their holdings are certain only once
//! everything is locked. So the holders are read again under the locks. If they have changed, the
//! call fails with a conflict, and can be repeated.

use base::{clock::Timestamp, ids::UserId};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        rbac::{
            authority,
            catalog::{CatalogEntry, Rbac, existing},
            declared::ITSELF,
            lock::lock_policies,
            roles::ensure_not_reserved,
        },
        request_context::RequestContext,
        sessions::revocation,
    },
    model::{Action, Permission, ReservedAction, Resource, Role},
    store::{self, Entry},
};

/// An object that is deleted together with its permissions.
pub(crate) trait Deletable: Sized + Send {
    /// Name of the object in the audit log.
    const TYPE: &'static str;
    /// Name of the audit event.
    const DELETED: &'static str;
    /// Whether only superusers may delete the object. In any case, the actor must hold the
    /// permissions that go with it.
    const IS_FOR_SUPERUSERS: bool;

    /// Finds an object that may be deleted, and the permissions that go with it.
    fn find(tx: &mut Conn, name: &str) -> impl Future<Output = Result<(Self, Vec<Permission>), Error>> + Send;

    /// Deletes the object with its permissions.
    fn remove(self, tx: &mut Conn) -> impl Future<Output = db::Result<()>> + Send;
}

impl Deletable for Resource {
    const TYPE: &'static str = <Self as CatalogEntry>::TYPE;
    const DELETED: &'static str = "resource.delete";
    const IS_FOR_SUPERUSERS: bool = true;

    async fn find(tx: &mut Conn, code_name: &str) -> Result<(Self, Vec<Permission>), Error> {
        let resource: Self = existing(tx, code_name).await?;
        if is_in_use(tx, resource.owner.as_slice()).await? {
            return Err(Error::Reserved(
                "this resource is built in or declared by a service that still has an account, so it cannot be deleted",
            ));
        }
        let permissions = store::permissions_of(tx, Some(resource.id), None).await?;
        Ok((resource, permissions))
    }

    async fn remove(self, tx: &mut Conn) -> db::Result<()> {
        self.entry_delete(tx).await
    }
}

impl Deletable for Action {
    const TYPE: &'static str = <Self as CatalogEntry>::TYPE;
    const DELETED: &'static str = "action.delete";
    const IS_FOR_SUPERUSERS: bool = true;

    async fn find(tx: &mut Conn, code_name: &str) -> Result<(Self, Vec<Permission>), Error> {
        let action: Self = existing(tx, code_name).await?;
        let permissions = store::permissions_of(tx, None, Some(action.id)).await?;
        if ReservedAction::parse(code_name).is_some() || are_in_use(tx, &permissions).await? {
            return Err(Error::Reserved(
                "this action is built in or declared by a service that still has an account, so it cannot be deleted",
            ));
        }
        Ok((action, permissions))
    }

    async fn remove(self, tx: &mut Conn) -> db::Result<()> {
        self.entry_delete(tx).await
    }
}

impl Deletable for Permission {
    const TYPE: &'static str = "permission";
    const DELETED: &'static str = "permission.delete";
    const IS_FOR_SUPERUSERS: bool = false;

    async fn find(tx: &mut Conn, name: &str) -> Result<(Self, Vec<Permission>), Error> {
        let permission = store::permission_by_name(tx, name).await?;
        let permissions = vec![permission.ok_or_else(|| Error::PermissionNotFound(name.to_owned()))?];
        if are_in_use(tx, &permissions).await? {
            return Err(Error::Reserved(
                "this permission is built in or declared by a service that still has an account, so it cannot be \
                deleted",
            ));
        }
        Ok((permissions[0].clone(), permissions))
    }

    async fn remove(self, tx: &mut Conn) -> db::Result<()> {
        store::permission_delete(tx, self.id).await
    }
}

/// Returns whether any of these permissions is built in, or declared by a service that still has an
/// account.
async fn are_in_use(tx: &mut Conn, permissions: &[Permission]) -> db::Result<bool> {
    let ids: Vec<_> = permissions.iter().map(|permission| permission.id).collect();
    let owners = store::permissions_owners(tx, &ids).await?;
    is_in_use(tx, &owners).await
}

/// Returns whether any of these owners of resources is auth-service itself or still has an account.
async fn is_in_use(tx: &mut Conn, owners: &[String]) -> db::Result<bool> {
    for owner in owners {
        if owner == ITSELF || store::service_account_by_client_id(tx, owner).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Rbac {
    /// Deletes a resource, an action or a permission. With `force`, its permissions are also taken
    /// from everyone who holds them.
    pub(crate) async fn delete<T: Deletable>(
        &self,
        context: &RequestContext,
        name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new(T::DELETED).target(T::TYPE, name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                if T::IS_FOR_SUPERUSERS {
                    authority::ensure_superuser(tx, context).await?;
                } else {
                    authority::ensure_still_good(tx, context).await?;
                }
                let (_, permissions) = T::find(tx, name).await?;
                let holders = lock(tx, &permissions).await?;
                let (found, permissions) = T::find(tx, name).await?;
                let loss = Loss::prepare(tx, context, &permissions, holders, force).await?;
                found.remove(tx).await?;
                loss.finish(tx, context, event, self.clock.now()).await
            })
        })
        .await
    }

    /// Deletes a role. With `force`, it is also taken from everyone who has it.
    pub(crate) async fn delete_role(
        &self,
        context: &RequestContext,
        code_name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("role.delete").target("role", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let holders = store::users_with_role(tx, code_name).await?;
                if force {
                    for holder in &holders {
                        store::user_lock(tx, *holder).await?;
                    }
                }
                lock_policies(tx).await?;
                authority::ensure_still_good(tx, context).await?;
                let role: Role = existing(tx, code_name).await?;
                ensure_not_reserved(code_name)?;
                // Checked first: only callers who may delete the role learn whether anyone has it.
                authority::ensure_may_change_role(tx, context, code_name).await?;
                if !holders.is_empty() && !force {
                    return Err(Error::InUse);
                }
                // Calls that give the role to a user wait for this lock.
                if !store::role_lock_by_code_name(tx, code_name).await?
                    || store::users_with_role(tx, code_name).await? != holders
                {
                    return Err(holders_changed());
                }
                let mut changes = Vec::new();
                for holder in &holders {
                    authority::ensure_may_act_on(tx, context, *holder).await?;
                }
                for holder in holders {
                    changes.push(revocation::make_stale(tx, holder).await?.1);
                }
                store::role_holders_delete(tx, role.id).await?;
                role.entry_delete(tx).await?;
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

/// Grants that users and roles lose when permissions are deleted.
struct Loss {
    changes: Vec<Change>,
    roles: Vec<String>,
}

impl Loss {
    /// Checks that the permissions may be deleted, and makes the tokens of `holders` stale. These
    /// users hold some of the permissions directly, and their rows are locked.
    async fn prepare(
        tx: &mut Conn,
        context: &RequestContext,
        permissions: &[Permission],
        holders: Vec<UserId>,
        force: bool,
    ) -> Result<Self, Error> {
        let names = names(permissions);
        // Checked first: only callers who may delete the permissions learn whether anyone has them.
        authority::ensure_may_give(tx, context, &names).await?;
        if store::users_with_permissions(tx, &names).await? != holders {
            return Err(holders_changed());
        }
        let roles = store::roles_with_permissions(tx, &names).await?;
        let is_held = !(holders.is_empty() && roles.is_empty());
        if is_held && !force {
            return Err(Error::InUse);
        }
        let mut changes = Vec::new();
        // All checks come first, because the actor may be one of the holders.
        for holder in &holders {
            authority::ensure_may_act_on(tx, context, *holder).await?;
        }
        for role in &roles {
            authority::ensure_may_change_role(tx, context, role).await?;
        }
        for holder in holders {
            changes.push(revocation::make_stale(tx, holder).await?.1);
        }
        Ok(Self { changes, roles })
    }

    /// Writes the audit event and publishes the changes, after the deletion.
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

/// Locks the users who hold any of these permissions directly, ordered by id, and then the
/// policies. Returns those users.
async fn lock(tx: &mut Conn, permissions: &[Permission]) -> Result<Vec<UserId>, Error> {
    let holders = store::users_with_permissions(tx, &names(permissions)).await?;
    for holder in &holders {
        store::user_lock(tx, *holder).await?;
    }
    lock_policies(tx).await?;
    Ok(holders)
}

fn names(permissions: &[Permission]) -> Vec<String> {
    permissions.iter().map(|permission| permission.name.clone()).collect()
}

fn holders_changed() -> Error {
    db::Error::Conflict("the users or roles that hold the object changed during the deletion".to_owned()).into()
}
