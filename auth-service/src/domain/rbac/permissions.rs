//! The permissions of the catalogue.

use base::page::{PageRequest, Position};
use db::write_tx;

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        rbac::{
            authority,
            catalog::{Rbac, add_permission, existing, taken},
            code_name::PermissionName,
            lock::lock_policies,
        },
        request_context::RequestContext,
    },
    ids::PermissionKind,
    model::{Action, Permission, Resource},
    store::{self, Entry as _},
};

impl Rbac {
    /// Creates a permission.
    pub(crate) async fn create_permission(
        &self,
        context: &RequestContext,
        name: &PermissionName,
        description: String,
    ) -> Result<Permission, Error> {
        write_tx!(self.db, |tx| {
            lock_policies(tx).await?;
            authority::ensure_still_good(tx, context).await?;
            let resource: Resource = existing(tx, &name.resource).await?;
            let action: Action = existing(tx, &name.action).await?;
            let text = name.to_string();
            if store::permission_by_name(tx, &text).await?.is_some() {
                return Err(Error::NameTaken(vec![taken("name")]));
            }
            let now = self.clock.now();
            let permission = add_permission(tx, &resource, &action, description, now).await?;
            let event = AuditEvent::new("permission.create").target("permission", &text);
            event.record(tx, context, now).await?;
            Ok(permission)
        })
    }

    /// Finds a permission by its name.
    pub(crate) async fn permission(&self, name: &PermissionName) -> Result<Permission, Error> {
        let name = name.to_string();
        let permission = store::permission_by_name(&mut self.db.read().await?, &name).await?;
        permission.ok_or(Error::PermissionNotFound(name))
    }

    /// Lists a page of permissions, of all resources or of one, with the token of the next page.
    pub(crate) async fn permissions(
        &self,
        page: &PageRequest<PermissionKind>,
        query: &str,
        resource: Option<&str>,
    ) -> Result<(Vec<Permission>, String), Error> {
        let mut conn = self.db.read().await?;
        let resource = match resource {
            None => None,
            Some(code_name) => match Resource::entry_by_code_name(&mut conn, code_name).await? {
                Some(resource) => Some(resource.id),
                None => return Ok((Vec::new(), String::new())),
            },
        };
        let mut permissions = store::permissions_list(&mut conn, page, resource).await?;
        let next = page.cut(&mut permissions, query, |permission| Position {
            time: permission.create_time,
            id: permission.id,
        });
        Ok((permissions, next))
    }

    /// Changes the description of a permission.
    pub(crate) async fn update_permission(
        &self,
        context: &RequestContext,
        name: &PermissionName,
        description: Option<&str>,
    ) -> Result<Permission, Error> {
        let name = name.to_string();
        let event = AuditEvent::new("permission.update").target("permission", &name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock_policies(tx).await?;
                authority::ensure_still_good(tx, context).await?;
                let missing = || Error::PermissionNotFound(name.clone());
                let permission = store::permission_by_name(tx, &name).await?.ok_or_else(missing)?;
                if let Some(description) = description {
                    authority::ensure_may_give(tx, context, std::slice::from_ref(&name)).await?;
                    store::permission_describe(tx, permission.id, description).await?;
                    event.record(tx, context, self.clock.now()).await?;
                }
                store::permission_by_name(tx, &name).await?.ok_or_else(missing)
            })
        })
        .await
    }
}
