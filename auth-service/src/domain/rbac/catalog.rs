//! The catalogue: which resources, actions, permissions and roles exist. `grants` manages who holds
//! them.

use base::{
    clock::{Clock, Timestamp},
    error::BadField,
    ids::{Id, UserId},
    page::PageRequest,
    rate::{KeyedLimit, RateRule},
};
use db::{Conn, Db, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, Records, recording_refusals},
        error::Error,
        rbac::{authority, lock::lock_policies},
        request_context::RequestContext,
    },
    ids::PermissionId,
    model::{Action, EntryNames, Permission, ReservedAction, Resource, Role},
    store::{self, Entry},
};

/// Rate at which one service may declare its permissions. Each of its replicas does so at its
/// start, and hundreds of them may start at once.
pub(crate) const DECLARATIONS: RateRule = RateRule {
    per_minute: 300,
    burst: 300,
};

/// The use cases of roles and permissions.
#[derive(Clone, Debug)]
pub(crate) struct Rbac {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// Limit of declarations, by service.
    pub(crate) declarations: KeyedLimit<UserId>,
}

/// A change of the name and the description of an entry. A value that is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryChange {
    /// New name. An empty one stands for the code name.
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
}

/// A resource, an action or a role.
pub(crate) trait CatalogEntry: Entry {
    /// Target type in audit events about such an entry.
    const TYPE: &'static str;
    /// Name of the audit event for a new entry.
    const CREATE: &'static str;
    /// Name of the audit event for a changed entry.
    const UPDATE: &'static str;

    /// Returns the error for a code name that no entry has.
    fn not_found(code_name: &str) -> Error;
}

/// An entry that only superusers create, change and delete.
pub(crate) trait SuperuserEntry: CatalogEntry {
    /// Creates what every new entry of this kind needs, such as the permission for every action.
    fn complete(&self, _tx: &mut Conn, _now: Timestamp) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

impl CatalogEntry for Resource {
    const TYPE: &'static str = "resource";
    const CREATE: &'static str = "resource.create";
    const UPDATE: &'static str = "resource.update";

    fn not_found(code_name: &str) -> Error {
        Error::ResourceNotFound(code_name.to_owned())
    }
}

impl CatalogEntry for Action {
    const TYPE: &'static str = "action";
    const CREATE: &'static str = "action.create";
    const UPDATE: &'static str = "action.update";

    fn not_found(code_name: &str) -> Error {
        Error::ActionNotFound(code_name.to_owned())
    }
}

impl CatalogEntry for Role {
    const TYPE: &'static str = "role";
    const CREATE: &'static str = "role.create";
    const UPDATE: &'static str = "role.update";

    fn not_found(code_name: &str) -> Error {
        Error::RoleNotFound(code_name.to_owned())
    }
}

impl SuperuserEntry for Resource {
    /// Adds the permission for every action.
    async fn complete(&self, tx: &mut Conn, now: Timestamp) -> Result<(), Error> {
        let all = existing(tx, ReservedAction::All.code_name()).await?;
        add_permission(tx, self, &all, String::new(), now).await.map(|_| ())
    }
}

impl SuperuserEntry for Action {}

impl Records for Rbac {
    fn db(&self) -> &Db {
        &self.db
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Rbac {
    /// Creates a resource or an action.
    pub(crate) async fn create<T: SuperuserEntry>(
        &self,
        context: &RequestContext,
        names: EntryNames,
    ) -> Result<T, Error> {
        let event = AuditEvent::new(T::CREATE).target(T::TYPE, &names.code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                authority::ensure_superuser(tx, context).await?;
                let now = self.clock.now();
                let entry: T = add(tx, names, now).await?;
                entry.complete(tx, now).await?;
                event.record(tx, context, now).await?;
                Ok(entry)
            })
        })
        .await
    }

    /// Finds an entry by its code name.
    pub(crate) async fn get<T: CatalogEntry>(&self, code_name: &str) -> Result<T, Error> {
        existing(&mut self.db.read().await?, code_name).await
    }

    /// Lists a page of entries, with the token of the next page.
    pub(crate) async fn list<T: CatalogEntry>(
        &self,
        page: &PageRequest<T::Kind>,
        query: &str,
    ) -> Result<(Vec<T>, String), Error> {
        page_of(&mut self.db.read().await?, page, query).await
    }

    /// Changes the name and the description of a resource or an action.
    pub(crate) async fn update<T: SuperuserEntry>(
        &self,
        context: &RequestContext,
        code_name: &str,
        change: &EntryChange,
    ) -> Result<T, Error> {
        let event = AuditEvent::new(T::UPDATE).target(T::TYPE, code_name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                authority::ensure_superuser(tx, context).await?;
                let entry: T = existing(tx, code_name).await?;
                describe(tx, &entry, code_name, change).await?;
                event.record(tx, context, self.clock.now()).await?;
                existing(tx, code_name).await
            })
        })
        .await
    }
}

/// Finds an entry by its code name.
pub(super) async fn existing<T: CatalogEntry>(conn: &mut Conn, code_name: &str) -> Result<T, Error> {
    let found = T::entry_by_code_name(conn, code_name).await?;
    found.ok_or_else(|| T::not_found(code_name))
}

/// Lists a page of entries, with the token of the next page.
pub(super) async fn page_of<T: CatalogEntry>(
    conn: &mut Conn,
    page: &PageRequest<T::Kind>,
    query: &str,
) -> Result<(Vec<T>, String), Error> {
    let mut entries = T::entries_list(conn, page).await?;
    let next = page.cut(&mut entries, query, T::position);
    Ok((entries, next))
}

/// Adds an entry. Uses the code name if there is no display name.
pub(super) async fn add<T: CatalogEntry>(tx: &mut Conn, mut names: EntryNames, now: Timestamp) -> Result<T, Error> {
    if names.name.is_empty() {
        names.name.clone_from(&names.code_name);
    }
    let mut fields = Vec::new();
    if T::entry_by_code_name(tx, &names.code_name).await?.is_some() {
        fields.push(taken("code_name"));
    }
    if T::entry_by_name(tx, &names.name).await?.is_some() {
        fields.push(taken("name"));
    }
    if !fields.is_empty() {
        return Err(Error::NameTaken(fields));
    }
    let entry = T::new(Id::generate(), names, now);
    entry.entry_insert(tx).await?;
    Ok(entry)
}

/// Changes the name and the description of an entry.
pub(super) async fn describe<T: CatalogEntry>(
    tx: &mut Conn,
    entry: &T,
    code_name: &str,
    change: &EntryChange,
) -> Result<(), Error> {
    let name = match change.name.as_deref() {
        Some("") => Some(code_name),
        name => name,
    };
    if let Some(name) = name
        && let Some(other) = T::entry_by_name(tx, name).await?
        && other.position() != entry.position()
    {
        return Err(Error::NameTaken(vec![taken("name")]));
    }
    Ok(entry.entry_describe(tx, name, change.description.as_deref()).await?)
}

/// Adds a permission that no service has declared.
pub(super) async fn add_permission(
    tx: &mut Conn,
    resource: &Resource,
    action: &Action,
    description: String,
    now: Timestamp,
) -> Result<Permission, Error> {
    let permission = Permission {
        id: PermissionId::generate(),
        resource_id: resource.id,
        action_id: action.id,
        name: format!("{}:{}", resource.code_name, action.code_name),
        description,
        is_declared: false,
        create_time: now,
    };
    store::permission_insert(tx, &permission).await?;
    Ok(permission)
}

pub(super) fn taken(field: &'static str) -> BadField {
    BadField {
        field: field.into(),
        description: "is taken".into(),
    }
}
