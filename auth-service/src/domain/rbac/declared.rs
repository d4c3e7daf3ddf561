//! The permissions that the RPCs of a service declare (`authz.v1.policy`). Missing permissions are
//! created and given to their default roles once. So a permission that an administrator has taken
//! from a role is not given back.
//!
//! If a built-in role is newer than a permission, the first declaration that names the role gives
//! it the permission, once. For this, the migration that creates the role marks the permissions
//! that existed before.

use std::collections::{BTreeMap, BTreeSet};

use access::policy::{Policies, Policy};
use base::{clock::Timestamp, ids::Id, validate::InvalidFields};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed::{self, Change},
        rbac::{
            authority,
            catalog::Rbac,
            code_name::PermissionName,
            lock::{MAX_ROLE_PERMISSIONS, lock_policies},
        },
        request_context::RequestContext,
    },
    ids::{ActionId, PermissionId, ResourceId, RoleId},
    model::{Action, EntryNames, Permission, ReservedAction, Resource},
    store::{self, Entry},
};

/// Owner of the resources that auth-service itself declares.
pub(crate) const ITSELF: &str = "auth-service";
/// A permission that an RPC needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) permission: PermissionName,
    /// Code names of the roles that receive the permission when it is created.
    pub(crate) default_roles: BTreeSet<String>,
}

/// Maximum number of resources that one service may own.
const MAX_RESOURCES: i64 = 200;
/// Maximum number of permissions on all resources of one service, except those for every action.
/// One declaration may name as many.
const MAX_PERMISSIONS: i64 = 500;

/// Changes that a declaration has made.
#[derive(Debug, Default)]
pub(in crate::domain) struct Declaration {
    /// Names of the permissions that were created.
    pub(in crate::domain) created: BTreeSet<String>,
    /// Code names of the roles that received a permission.
    pub(in crate::domain) changed_roles: BTreeSet<String>,
    /// Code names of existing resources without an owner that the service has adopted.
    pub(in crate::domain) adopted: BTreeSet<String>,
}

impl Rbac {
    /// Declares the permissions that the RPCs of the calling service need. Returns the names of
    /// those that were created, sorted.
    pub(crate) async fn register_policies(
        &self,
        context: &RequestContext,
        declared: &[Declared],
    ) -> Result<Vec<String>, Error> {
        let owner = context.principal().filter(|principal| principal.is_service());
        let owner = owner
            .ok_or(Error::Reserved(
                "only services can register policies: call this with the access token of a service account",
            ))?
            .client_id();
        if let Some(service) = context.user_id() {
            self.declarations.admit(&service).map_err(Error::TooManyAttempts)?;
        }
        write_tx!(self.db, |tx| {
            lock_policies(tx).await?;
            authority::ensure_still_good(tx, context).await?;
            let now = self.clock.now();
            let declaration = declare(tx, owner, declared, now).await?;
            if !declaration.adopted.is_empty() {
                AuditEvent::new("policies.adopt")
                    .target("service_account", owner)
                    .detail(
                        "resources",
                        declaration.adopted.iter().cloned().collect::<Vec<_>>().join(" "),
                    )
                    .record(tx, context, now)
                    .await?;
            }
            if declaration.created.is_empty() && declaration.changed_roles.is_empty() {
                return Ok(Vec::new());
            }
            let created: Vec<String> = declaration.created.into_iter().collect();
            let roles: Vec<String> = declaration.changed_roles.iter().cloned().collect();
            AuditEvent::new("policies.register")
                .target("service_account", owner)
                .detail("permissions", created.join(" "))
                .detail("roles", roles.join(" "))
                .record(tx, context, now)
                .await?;
            let mut changes = Vec::new();
            for code_name in declaration.changed_roles {
                let permissions = store::role_permission_names(tx, &code_name).await?;
                changes.push(Change::RoleChanged { code_name, permissions });
            }
            feed::publish(tx, changes, now).await?;
            Ok(created)
        })
    }
}

/// Declares the permissions that auth-service's own RPCs need. The caller holds the migration lock.
pub(crate) async fn declare_own(tx: &mut Conn, descriptor_set: &[u8], now: Timestamp) -> Result<(), Error> {
    let policies = Policies::from_descriptor_set(descriptor_set).map_err(|error| Error::Internal(error.to_string()))?;
    let mut declared: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, policy) in policies.iter() {
        if let Policy::Permission(permission) = policy {
            declared.entry(permission.to_string()).or_default();
        }
    }
    for (role, permission) in policies.default_grants() {
        declared
            .entry(permission.to_string())
            .or_default()
            .insert(role.to_owned());
    }
    let mut own = Vec::new();
    for (name, default_roles) in declared {
        let permission = name
            .parse()
            .map_err(|error| Error::Internal(format!("{name} {error}")))?;
        own.push(Declared {
            permission,
            default_roles,
        });
    }
    declare(tx, ITSELF, &own, now).await.map(|_| ())
}

/// Creates the declared permissions that are missing. Concurrent declarations wait for each other.
///
/// An existing permission is not given to anyone by a declaration, except to a new built-in role,
/// and a resource stays with the client id that declared it first, even if its account is deleted.
/// So a declaration gives nobody access to anything that exists.
pub(in crate::domain) async fn declare(
    tx: &mut Conn,
    owner: &str,
    declared: &[Declared],
    now: Timestamp,
) -> Result<Declaration, Error> {
    lock_policies(tx).await?;
    let mut declaration = Declaration::default();
    for Declared {
        permission,
        default_roles,
    } in declared
    {
        let resource = resource(tx, owner, &permission.resource, &mut declaration, now).await?;
        let action = action(tx, &permission.action, now).await?;
        // This permission comes with every resource, and is not given to any role.
        let every = self::action(tx, ReservedAction::All.code_name(), now).await?;
        let all = PermissionName {
            resource: permission.resource.clone(),
            action: ReservedAction::All.code_name().to_owned(),
        };
        self::permission(tx, &all, resource, every, now).await?;
        let name = permission.to_string();
        let id = match self::permission(tx, permission, resource, action, now).await? {
            Stored::New(id) => id,
            Stored::Known(id) => {
                fill_new_roles(tx, id, default_roles, &mut declaration).await?;
                continue;
            }
        };
        if store::permissions_count_of(tx, owner, ReservedAction::All.code_name()).await? > MAX_PERMISSIONS {
            let why = "would exceed the 500 permissions that a service can own";
            return Err(InvalidFields::one("permissions", why).into());
        }
        for role in default_roles {
            let role_id = store::role_id(tx, role).await?;
            let role_id = role_id.ok_or_else(|| Error::RoleNotFound(role.clone()))?;
            give(tx, (role, role_id), id, &mut declaration).await?;
        }
        declaration.created.insert(name);
    }
    // A declaration that names a new role comes from a version that knows the role. From now on,
    // administrators decide what the role may do with the resources of this service.
    let named: BTreeSet<&String> = declared.iter().flat_map(|it| &it.default_roles).collect();
    for role in named {
        if let Some(role_id) = store::role_id(tx, role).await? {
            store::new_role_permissions_clear_of(tx, role_id, owner).await?;
        }
    }
    Ok(declaration)
}

/// Gives a permission to a default role.
async fn give(
    tx: &mut Conn,
    (role, role_id): (&str, RoleId),
    permission: PermissionId,
    declaration: &mut Declaration,
) -> Result<(), Error> {
    store::role_permission_insert(tx, role_id, permission).await?;
    if store::role_permissions_count(tx, role_id).await? > MAX_ROLE_PERMISSIONS {
        let why = format!("would exceed the {MAX_ROLE_PERMISSIONS} permissions that the role {role} can hold");
        return Err(InvalidFields::one("permissions", why).into());
    }
    declaration.changed_roles.insert(role.to_owned());
    Ok(())
}

/// Gives an existing permission to those of its default roles that are new built-in ones and have
/// not been given it yet.
async fn fill_new_roles(
    tx: &mut Conn,
    permission: PermissionId,
    default_roles: &BTreeSet<String>,
    declaration: &mut Declaration,
) -> Result<(), Error> {
    for role in default_roles {
        let Some(role_id) = store::role_id(tx, role).await? else {
            continue;
        };
        if store::new_role_permission_take(tx, role_id, permission).await? {
            give(tx, (role, role_id), permission, declaration).await?;
        }
    }
    Ok(())
}

async fn resource(
    tx: &mut Conn,
    owner: &str,
    code_name: &str,
    declaration: &mut Declaration,
    now: Timestamp,
) -> Result<ResourceId, Error> {
    if let Some(resource) = Resource::entry_by_code_name(tx, code_name).await? {
        return match resource.owner.as_deref() {
            Some(theirs) if theirs != owner => Err(Error::ResourceOwned(code_name.to_owned())),
            Some(_) => Ok(resource.id),
            // An administrator created the resource.
            None if !(store::permissions_of(tx, Some(resource.id), None).await?)
                .iter()
                .any(|permission| permission.is_declared) =>
            {
                Err(Error::ResourceOwned(code_name.to_owned()))
            }
            // The resource has declared permissions but no owner, because it is older than owners.
            None => {
                store::resource_set_owner(tx, resource.id, owner).await?;
                declaration.adopted.insert(code_name.to_owned());
                Ok(resource.id)
            }
        };
    }
    if store::resources_count_of(tx, owner).await? >= MAX_RESOURCES {
        return Err(InvalidFields::one("permissions", "would exceed the 200 resources that a service can own").into());
    }
    let mut resource: Resource = new_entry(tx, code_name, now).await?;
    resource.owner = Some(owner.to_owned());
    resource.entry_insert(tx).await?;
    Ok(resource.id)
}

async fn action(tx: &mut Conn, code_name: &str, now: Timestamp) -> Result<ActionId, Error> {
    if let Some(action) = Action::entry_by_code_name(tx, code_name).await? {
        return Ok(action.id);
    }
    let action: Action = new_entry(tx, code_name, now).await?;
    action.entry_insert(tx).await?;
    Ok(action.id)
}

/// Makes an entry without storing it. Its name is its code name, or its id if another entry already
/// has that name.
async fn new_entry<T: Entry>(tx: &mut Conn, code_name: &str, now: Timestamp) -> db::Result<T> {
    let id = Id::generate();
    let is_taken = T::entry_by_name(tx, code_name).await?.is_some();
    let names = EntryNames {
        code_name: code_name.to_owned(),
        name: if is_taken { id.to_string() } else { code_name.to_owned() },
        description: String::new(),
    };
    Ok(T::new(id, names, now))
}

/// A permission that is stored now.
enum Stored {
    New(PermissionId),
    Known(PermissionId),
}

/// Creates a permission. If it exists, marks it as declared.
async fn permission(
    tx: &mut Conn,
    name: &PermissionName,
    resource_id: ResourceId,
    action_id: ActionId,
    now: Timestamp,
) -> Result<Stored, Error> {
    if let Some(row) = store::permission_by_name(tx, &name.to_string()).await? {
        if !row.is_declared {
            store::permission_set_declared(tx, row.id).await?;
        }
        return Ok(Stored::Known(row.id));
    }
    let row = Permission {
        id: PermissionId::generate(),
        resource_id,
        action_id,
        name: name.to_string(),
        description: String::new(),
        is_declared: true,
        create_time: now,
    };
    store::permission_insert(tx, &row).await?;
    Ok(Stored::New(row.id))
}
