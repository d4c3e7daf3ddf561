//! Resources, actions, permissions and roles: what there is to be held. Who holds it is for `grants`.

use base::{
    clock::{Clock, Timestamp},
    error::BadField,
    ids::{Id, Kind, UserId},
    page::{PageRequest, Position},
    rate::{KeyedLimit, RateRule},
};
use db::{Conn, Db, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, Records, recording_refusals},
        error::Error,
        feed::{self, Change},
        rbac::{
            authority,
            code_name::PermissionName,
            lock::{ALL, lock_policies},
        },
        request_context::RequestContext,
    },
    ids::{ActionId, ActionKind, PermissionId, PermissionKind, ResourceId, ResourceKind, RoleId, RoleKind},
    store::{self, ActionRow, PermissionRow, ResourceRow, Role, RoleRow},
};

const RESERVED_ACTIONS: [&str; 5] = [ALL, "create", "read", "update", "delete"];
const RESERVED_ROLES: [Role; 4] = [Role::Superuser, Role::Admin, Role::Player, Role::Service];

/// The use cases of roles and permissions.
#[derive(Clone, Debug)]
pub(crate) struct Rbac {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// Declarations of each service.
    pub(crate) declarations: KeyedLimit<UserId>,
}

/// The rate at which one service may declare its permissions: each replica does it at its start.
pub(crate) const DECLARATIONS: RateRule = RateRule {
    per_minute: 60,
    burst: 60,
};

/// What something is called, by policies and by people.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) code_name: String,
    /// Empty: the code name.
    pub(crate) name: String,
    pub(crate) description: String,
}

/// What changes in what something is called; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renaming {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
}

/// A role and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct RoleWithPermissions {
    pub(crate) role: RoleRow,
    /// Names, sorted.
    pub(crate) permissions: Vec<String>,
}

/// Whether an action is built in.
pub(crate) fn is_reserved_action(code_name: &str) -> bool {
    RESERVED_ACTIONS.contains(&code_name)
}

/// Whether a role is built in.
pub(crate) fn is_reserved_role(code_name: &str) -> bool {
    RESERVED_ROLES.iter().any(|role| role.code_name() == code_name)
}

impl Named {
    fn display_name(&self) -> &str {
        if self.name.is_empty() {
            &self.code_name
        } else {
            &self.name
        }
    }
}

impl Renaming {
    /// The new name and description of what is called this so far.
    fn of<'a>(&'a self, code_name: &'a str, name: &'a str, description: &'a str) -> (&'a str, &'a str) {
        let name = match self.name.as_deref() {
            Some("") => code_name,
            Some(new) => new,
            None => name,
        };
        (name, self.description.as_deref().unwrap_or(description))
    }
}

impl Records for Rbac {
    fn db(&self) -> &Db {
        &self.db
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Rbac {
    /// Creates a resource, and the permission for every action on it.
    pub(crate) async fn create_resource(&self, context: &RequestContext, new: Named) -> Result<ResourceRow, Error> {
        let event = AuditEvent::new("resource.create").target("resource", &new.code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                authority::ensure_superuser(tx, context).await?;
                lock_policies(tx).await?;
                let code_name = store::resource_by_code_name(tx, &new.code_name).await?.is_some();
                let name = store::resource_by_name(tx, new.display_name()).await?.is_some();
                ensure_free(code_name, name)?;
                let now = self.clock.now();
                let row = ResourceRow {
                    id: ResourceId::generate(),
                    code_name: new.code_name.clone(),
                    name: new.display_name().to_owned(),
                    description: new.description.clone(),
                    owner: None,
                    create_time: now,
                };
                store::resource_insert(tx, &row).await?;
                let every = store::action_by_code_name(tx, ALL)
                    .await?
                    .ok_or_else(|| Error::ActionNotFound(ALL.to_owned()))?;
                let name = format!("{}:{ALL}", row.code_name);
                permission_insert(tx, &name, row.id, every.id, String::new(), now).await?;
                event.record(tx, context, now).await?;
                Ok(row)
            })
        })
        .await
    }

    /// A resource by its code name.
    pub(crate) async fn resource(&self, code_name: &str) -> Result<ResourceRow, Error> {
        let mut conn = self.db.read().await?;
        let row = store::resource_by_code_name(&mut conn, code_name).await?;
        row.ok_or_else(|| Error::ResourceNotFound(code_name.to_owned()))
    }

    /// A page of resources.
    pub(crate) async fn resources(
        &self,
        page: &PageRequest<ResourceKind>,
        query: &str,
    ) -> Result<(Vec<ResourceRow>, String), Error> {
        let mut rows = store::resources_list(&mut self.db.read().await?, page).await?;
        let next = page.cut(&mut rows, query, |row| position(row.create_time, row.id));
        Ok((rows, next))
    }

    /// Changes what a resource is called by people.
    pub(crate) async fn update_resource(
        &self,
        context: &RequestContext,
        code_name: &str,
        change: &Renaming,
    ) -> Result<ResourceRow, Error> {
        let event = AuditEvent::new("resource.update").target("resource", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                authority::ensure_superuser(tx, context).await?;
                lock_policies(tx).await?;
                let row = store::resource_by_code_name(tx, code_name).await?;
                let row = row.ok_or_else(|| Error::ResourceNotFound(code_name.to_owned()))?;
                let (name, description) = change.of(&row.code_name, &row.name, &row.description);
                let other = store::resource_by_name(tx, name).await?;
                ensure_free(false, other.is_some_and(|other| other.id != row.id))?;
                store::resource_describe(tx, row.id, name, description).await?;
                event.record(tx, context, self.clock.now()).await?;
                store::resource_by_code_name(tx, code_name)
                    .await?
                    .ok_or_else(|| Error::ResourceNotFound(code_name.to_owned()))
            })
        })
        .await
    }

    /// Creates an action.
    pub(crate) async fn create_action(&self, context: &RequestContext, new: Named) -> Result<ActionRow, Error> {
        let event = AuditEvent::new("action.create").target("action", &new.code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                authority::ensure_superuser(tx, context).await?;
                lock_policies(tx).await?;
                let code_name = store::action_by_code_name(tx, &new.code_name).await?.is_some();
                let name = store::action_by_name(tx, new.display_name()).await?.is_some();
                ensure_free(code_name, name)?;
                let now = self.clock.now();
                let row = ActionRow {
                    id: ActionId::generate(),
                    code_name: new.code_name.clone(),
                    name: new.display_name().to_owned(),
                    description: new.description.clone(),
                    create_time: now,
                };
                store::action_insert(tx, &row).await?;
                event.record(tx, context, now).await?;
                Ok(row)
            })
        })
        .await
    }

    /// An action by its code name.
    pub(crate) async fn action(&self, code_name: &str) -> Result<ActionRow, Error> {
        let mut conn = self.db.read().await?;
        let row = store::action_by_code_name(&mut conn, code_name).await?;
        row.ok_or_else(|| Error::ActionNotFound(code_name.to_owned()))
    }

    /// A page of actions.
    pub(crate) async fn actions(
        &self,
        page: &PageRequest<ActionKind>,
        query: &str,
    ) -> Result<(Vec<ActionRow>, String), Error> {
        let mut rows = store::actions_list(&mut self.db.read().await?, page).await?;
        let next = page.cut(&mut rows, query, |row| position(row.create_time, row.id));
        Ok((rows, next))
    }

    /// Changes what an action is called by people.
    pub(crate) async fn update_action(
        &self,
        context: &RequestContext,
        code_name: &str,
        change: &Renaming,
    ) -> Result<ActionRow, Error> {
        let event = AuditEvent::new("action.update").target("action", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                authority::ensure_superuser(tx, context).await?;
                lock_policies(tx).await?;
                let row = store::action_by_code_name(tx, code_name)
                    .await?
                    .ok_or_else(|| Error::ActionNotFound(code_name.to_owned()))?;
                let (name, description) = change.of(&row.code_name, &row.name, &row.description);
                let other = store::action_by_name(tx, name).await?;
                ensure_free(false, other.is_some_and(|other| other.id != row.id))?;
                store::action_describe(tx, row.id, name, description).await?;
                event.record(tx, context, self.clock.now()).await?;
                store::action_by_code_name(tx, code_name)
                    .await?
                    .ok_or_else(|| Error::ActionNotFound(code_name.to_owned()))
            })
        })
        .await
    }

    /// Creates a permission.
    pub(crate) async fn create_permission(
        &self,
        context: &RequestContext,
        name: &PermissionName,
        description: String,
    ) -> Result<PermissionRow, Error> {
        write_tx!(self.db, |tx| {
            lock_policies(tx).await?;
            let resource = store::resource_by_code_name(tx, &name.resource).await?;
            let resource = resource.ok_or_else(|| Error::ResourceNotFound(name.resource.clone()))?;
            let action = store::action_by_code_name(tx, &name.action)
                .await?
                .ok_or_else(|| Error::ActionNotFound(name.action.clone()))?;
            let text = name.to_string();
            if store::permission_by_name(tx, &text).await?.is_some() {
                return Err(Error::NameTaken(vec![taken("name")]));
            }
            let now = self.clock.now();
            let row = permission_insert(tx, &text, resource.id, action.id, description, now).await?;
            let event = AuditEvent::new("permission.create").target("permission", &text);
            event.record(tx, context, now).await?;
            Ok(row)
        })
    }

    /// A permission by its name.
    pub(crate) async fn permission(&self, name: &PermissionName) -> Result<PermissionRow, Error> {
        let name = name.to_string();
        let row = store::permission_by_name(&mut self.db.read().await?, &name).await?;
        row.ok_or(Error::PermissionNotFound(name))
    }

    /// A page of permissions, of one resource where it is given.
    pub(crate) async fn permissions(
        &self,
        page: &PageRequest<PermissionKind>,
        query: &str,
        resource: Option<&str>,
    ) -> Result<(Vec<PermissionRow>, String), Error> {
        let mut conn = self.db.read().await?;
        let resource = match resource {
            None => None,
            Some(code_name) => match store::resource_by_code_name(&mut conn, code_name).await? {
                Some(row) => Some(row.id),
                None => return Ok((Vec::new(), String::new())),
            },
        };
        let mut rows = store::permissions_list(&mut conn, page, resource).await?;
        let next = page.cut(&mut rows, query, |row| position(row.create_time, row.id));
        Ok((rows, next))
    }

    /// Changes the description of a permission.
    pub(crate) async fn update_permission(
        &self,
        context: &RequestContext,
        name: &PermissionName,
        description: Option<&str>,
    ) -> Result<PermissionRow, Error> {
        let name = name.to_string();
        write_tx!(self.db, |tx| {
            let missing = || Error::PermissionNotFound(name.clone());
            let row = store::permission_by_name(tx, &name).await?.ok_or_else(missing)?;
            if let Some(description) = description {
                authority::ensure_may_give(tx, context, std::slice::from_ref(&name)).await?;
                store::permission_describe(tx, row.id, description).await?;
                let event = AuditEvent::new("permission.update").target("permission", &name);
                event.record(tx, context, self.clock.now()).await?;
            }
            store::permission_by_name(tx, &name).await?.ok_or_else(missing)
        })
    }

    /// Creates a role that holds these permissions.
    pub(crate) async fn create_role(
        &self,
        context: &RequestContext,
        new: Named,
        permissions: Vec<String>,
    ) -> Result<RoleWithPermissions, Error> {
        let event = AuditEvent::new("role.create")
            .target("role", &new.code_name)
            .detail("permissions", permissions.join(" "));
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                let code_name = store::role_by_code_name(tx, &new.code_name).await?.is_some();
                let name = store::role_by_name(tx, new.display_name()).await?.is_some();
                ensure_free(code_name, name)?;
                authority::ensure_may_give(tx, context, &permissions).await?;
                let now = self.clock.now();
                let row = RoleRow {
                    id: RoleId::generate(),
                    code_name: new.code_name.clone(),
                    name: new.display_name().to_owned(),
                    description: new.description.clone(),
                    create_time: now,
                };
                store::role_insert(tx, &row).await?;
                set_permissions(tx, row.id, &permissions).await?;
                let permissions = store::role_permission_names(tx, &row.code_name).await?;
                event.record(tx, context, now).await?;
                let change = Change::RoleChanged {
                    code_name: row.code_name.clone(),
                    permissions: permissions.clone(),
                };
                feed::publish(tx, vec![change], now).await?;
                Ok(RoleWithPermissions { role: row, permissions })
            })
        })
        .await
    }

    /// A role by its code name.
    pub(crate) async fn role(&self, code_name: &str) -> Result<RoleWithPermissions, Error> {
        role_with_permissions(&mut self.db.read().await?, code_name).await
    }

    /// A page of roles.
    pub(crate) async fn roles(
        &self,
        page: &PageRequest<RoleKind>,
        query: &str,
    ) -> Result<(Vec<RoleWithPermissions>, String), Error> {
        let mut conn = self.db.read().await?;
        let mut rows = store::roles_list(&mut conn, page).await?;
        let next = page.cut(&mut rows, query, |row| position(row.create_time, row.id));
        let mut roles = Vec::with_capacity(rows.len());
        for role in rows {
            let permissions = store::role_permission_names(&mut conn, &role.code_name).await?;
            roles.push(RoleWithPermissions { role, permissions });
        }
        Ok((roles, next))
    }

    /// Changes what a role is called by people.
    pub(crate) async fn update_role(
        &self,
        context: &RequestContext,
        code_name: &str,
        change: &Renaming,
    ) -> Result<RoleWithPermissions, Error> {
        write_tx!(self.db, |tx| {
            lock_policies(tx).await?;
            let row = store::role_by_code_name(tx, code_name).await?;
            let row = row.ok_or_else(|| Error::RoleNotFound(code_name.to_owned()))?;
            if is_reserved_role(code_name) {
                return Err(Error::Reserved("this role is built in and cannot be changed"));
            }
            authority::ensure_may_change_role(tx, context, code_name).await?;
            let (name, description) = change.of(&row.code_name, &row.name, &row.description);
            let other = store::role_by_name(tx, name).await?;
            ensure_free(false, other.is_some_and(|other| other.id != row.id))?;
            store::role_describe(tx, row.id, name, description).await?;
            let event = AuditEvent::new("role.update").target("role", code_name);
            event.record(tx, context, self.clock.now()).await?;
            role_with_permissions(tx, code_name).await
        })
    }

    /// Lets a role hold exactly these permissions.
    pub(crate) async fn set_role_permissions(
        &self,
        context: &RequestContext,
        code_name: &str,
        permissions: Vec<String>,
    ) -> Result<RoleWithPermissions, Error> {
        let event = AuditEvent::new("role.set_permissions").target("role", code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                if code_name == Role::Superuser.code_name() {
                    return Err(Error::Reserved(
                        "`superuser` holds every permission and cannot be changed",
                    ));
                }
                lock_policies(tx).await?;
                let before = role_with_permissions(tx, code_name).await?;
                let gained = difference(&permissions, &before.permissions);
                let lost = difference(&before.permissions, &permissions);
                if gained.is_empty() && lost.is_empty() {
                    return Ok(before);
                }
                authority::ensure_may_change_role(tx, context, code_name).await?;
                authority::ensure_may_give(tx, context, &gained).await?;
                set_permissions(tx, before.role.id, &permissions).await?;
                let after = role_with_permissions(tx, code_name).await?;
                let now = self.clock.now();
                event
                    .detail("gained", gained.join(" "))
                    .detail("lost", lost.join(" "))
                    .record(tx, context, now)
                    .await?;
                let change = Change::RoleChanged {
                    code_name: code_name.to_owned(),
                    permissions: after.permissions.clone(),
                };
                feed::publish(tx, vec![change], now).await?;
                Ok(after)
            })
        })
        .await
    }
}

async fn role_with_permissions(conn: &mut Conn, code_name: &str) -> Result<RoleWithPermissions, Error> {
    let role = store::role_by_code_name(conn, code_name).await?;
    let role = role.ok_or_else(|| Error::RoleNotFound(code_name.to_owned()))?;
    let permissions = store::role_permission_names(conn, code_name).await?;
    Ok(RoleWithPermissions { role, permissions })
}

async fn set_permissions(tx: &mut Conn, role: RoleId, names: &[String]) -> Result<(), Error> {
    store::role_permissions_delete(tx, role).await?;
    for name in names {
        let id: Option<PermissionId> = store::permission_id(tx, name).await?;
        let id = id.ok_or_else(|| Error::PermissionNotFound(name.clone()))?;
        store::role_permission_insert(tx, role, id).await?;
    }
    Ok(())
}

async fn permission_insert(
    tx: &mut Conn,
    name: &str,
    resource_id: ResourceId,
    action_id: ActionId,
    description: String,
    now: Timestamp,
) -> Result<PermissionRow, Error> {
    let row = PermissionRow {
        id: PermissionId::generate(),
        resource_id,
        action_id,
        name: name.to_owned(),
        description,
        is_declared: false,
        create_time: now,
    };
    store::permission_insert(tx, &row).await?;
    Ok(row)
}

fn difference(of: &[String], without: &[String]) -> Vec<String> {
    of.iter().filter(|name| !without.contains(name)).cloned().collect()
}

fn ensure_free(is_code_name_taken: bool, is_name_taken: bool) -> Result<(), Error> {
    let taken: Vec<BadField> = [(is_code_name_taken, "code_name"), (is_name_taken, "name")]
        .into_iter()
        .filter(|(is_taken, _)| *is_taken)
        .map(|(_, field)| taken(field))
        .collect();
    if taken.is_empty() {
        Ok(())
    } else {
        Err(Error::NameTaken(taken))
    }
}

fn taken(field: &'static str) -> BadField {
    BadField {
        field: field.into(),
        description: "is taken".into(),
    }
}

fn position<K: Kind>(time: Timestamp, id: Id<K>) -> Position<K> {
    Position { time, id }
}
