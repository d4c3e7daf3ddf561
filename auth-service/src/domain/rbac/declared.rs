//! The permissions that the RPCs of a service declare (`authz.v1.policy`): made where they are not there, and given to their default
//! roles once, so that what an administrator took away stays away.

use std::collections::{BTreeMap, BTreeSet};

use access::policy::{Policies, Policy};
use base::{clock::Timestamp, validate::InvalidFields};
use db::Conn;

use crate::{
    domain::{
        error::Error,
        rbac::{
            code_name::PermissionName,
            lock::{ALL, MAX_ROLE_PERMISSIONS, lock_policies},
        },
    },
    ids::{ActionId, PermissionId, ResourceId},
    store::{self, ActionRow, PermissionRow, ResourceRow},
};

/// The owner of what auth-service declares itself.
pub(crate) const ITSELF: &str = "auth-service";
/// A permission that an RPC needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) permission: PermissionName,
    /// Code names of the roles that hold it from the start.
    pub(crate) default_roles: BTreeSet<String>,
}

/// Resources that one service may own.
const MAX_RESOURCES: i64 = 200;
/// Permissions of all resources that one service owns, without those for every action. As many as one declaration may name.
const MAX_PERMISSIONS: i64 = 500;

/// What a declaration has changed.
#[derive(Debug, Default)]
pub(in crate::domain) struct Declaration {
    /// Names of the permissions that were new.
    pub(in crate::domain) created: BTreeSet<String>,
    /// Code names of the roles that got something.
    pub(in crate::domain) changed_roles: BTreeSet<String>,
    /// Code names of the resources that were there and nobody's.
    pub(in crate::domain) adopted: BTreeSet<String>,
}

/// Declares what auth-service's own RPCs need. Run under the migration lock.
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

/// Makes what is declared and not there. All that declare wait for each other.
///
/// What is there already is given to nobody, whoever declares it, and a resource belongs to whoever declared it first: so nobody gets
/// hold of anything by a declaration.
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
        // Comes with every resource, and is given to nobody.
        let every = self::action(tx, ALL, now).await?;
        let all = PermissionName {
            resource: permission.resource.clone(),
            action: ALL.to_owned(),
        };
        self::permission(tx, &all, resource, every, now).await?;
        let name = permission.to_string();
        let Some(id) = self::permission(tx, permission, resource, action, now).await? else {
            continue;
        };
        if store::permissions_count_of(tx, owner, ALL).await? > MAX_PERMISSIONS {
            let why = "would exceed the 500 permissions that a service can own";
            return Err(InvalidFields::one("permissions", why).into());
        }
        for role in default_roles {
            let role_id = store::role_id(tx, role).await?;
            let role_id = role_id.ok_or_else(|| Error::RoleNotFound(role.clone()))?;
            store::role_permission_insert(tx, role_id, id).await?;
            if store::role_permissions_count(tx, role_id).await? > MAX_ROLE_PERMISSIONS {
                let why = format!("would exceed the {MAX_ROLE_PERMISSIONS} permissions that the role {role} can hold");
                return Err(InvalidFields::one("permissions", why).into());
            }
            declaration.changed_roles.insert(role.clone());
        }
        declaration.created.insert(name);
    }
    Ok(declaration)
}

async fn resource(
    tx: &mut Conn,
    owner: &str,
    code_name: &str,
    declaration: &mut Declaration,
    now: Timestamp,
) -> Result<ResourceId, Error> {
    if let Some(row) = store::resource_by_code_name(tx, code_name).await? {
        return match row.owner.as_deref() {
            Some(theirs) if theirs != owner => Err(Error::ResourceOwned(code_name.to_owned())),
            Some(_) => Ok(row.id),
            // An administrator made it.
            None if !(store::permissions_of(tx, Some(row.id), None).await?)
                .iter()
                .any(|permission| permission.is_declared) =>
            {
                Err(Error::ResourceOwned(code_name.to_owned()))
            }
            // The account that declared it was deleted.
            None => {
                store::resource_set_owner(tx, row.id, owner).await?;
                declaration.adopted.insert(code_name.to_owned());
                Ok(row.id)
            }
        };
    }
    if store::resources_count_of(tx, owner).await? >= MAX_RESOURCES {
        return Err(InvalidFields::one("permissions", "would exceed the 200 resources that a service can own").into());
    }
    let mut row = ResourceRow {
        id: ResourceId::generate(),
        code_name: code_name.to_owned(),
        name: code_name.to_owned(),
        description: String::new(),
        owner: Some(owner.to_owned()),
        create_time: now,
    };
    // A name for people stands in nobody's way.
    if store::resource_by_name(tx, &row.name).await?.is_some() {
        row.name = row.id.to_string();
    }
    store::resource_insert(tx, &row).await?;
    Ok(row.id)
}

async fn action(tx: &mut Conn, code_name: &str, now: Timestamp) -> Result<ActionId, Error> {
    if let Some(row) = store::action_by_code_name(tx, code_name).await? {
        return Ok(row.id);
    }
    let mut row = ActionRow {
        id: ActionId::generate(),
        code_name: code_name.to_owned(),
        name: code_name.to_owned(),
        description: String::new(),
        create_time: now,
    };
    // A name for people stands in nobody's way.
    if store::action_by_name(tx, &row.name).await?.is_some() {
        row.name = row.id.to_string();
    }
    store::action_insert(tx, &row).await?;
    Ok(row.id)
}

/// The permission, where it is new.
async fn permission(
    tx: &mut Conn,
    name: &PermissionName,
    resource_id: ResourceId,
    action_id: ActionId,
    now: Timestamp,
) -> Result<Option<PermissionId>, Error> {
    if let Some(row) = store::permission_by_name(tx, &name.to_string()).await? {
        if !row.is_declared {
            store::permission_set_declared(tx, row.id).await?;
        }
        return Ok(None);
    }
    let row = PermissionRow {
        id: PermissionId::generate(),
        resource_id,
        action_id,
        name: name.to_string(),
        description: String::new(),
        is_declared: true,
        create_time: now,
    };
    store::permission_insert(tx, &row).await?;
    Ok(Some(row.id))
}
