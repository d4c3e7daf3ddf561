//! Who holds what: roles and permissions are given to users, and asked about.

use std::collections::BTreeMap;

use base::{ids::UserId, validate::InvalidFields};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed::{self, Change},
        rbac::{
            authority::{self, covers},
            catalog::Rbac,
            code_name::PermissionName,
            declared::{self, Declared},
            lock::lock_policies,
        },
        request_context::RequestContext,
        sessions::revocation,
    },
    store::{self, FeedHead, Holdings, Role},
};

/// Permissions that are granted to one user directly, at most: an access token carries them.
const MAX_DIRECT_GRANTS: usize = 100;

/// A permission that a user holds, and by what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Code names, sorted.
    pub(crate) roles: Vec<String>,
    pub(crate) is_direct: bool,
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Superuser,
    /// The role, and the permission that it holds.
    Role {
        role: String,
        via: String,
    },
    /// The permission that is granted.
    DirectGrant {
        via: String,
    },
    NotGranted,
    PermissionUnknown,
    UserUnknown,
    UserInactive,
}

/// Decisions, all of the same moment.
#[derive(Debug)]
pub(crate) struct Decisions {
    pub(crate) decisions: Vec<Decision>,
    /// How far the feed had come at that moment.
    pub(crate) head: FeedHead,
}

impl Rbac {
    /// Gives a user a role. Gives the user's roles.
    pub(crate) async fn assign_role(
        &self,
        context: &RequestContext,
        user_id: UserId,
        role: &str,
    ) -> Result<Vec<String>, Error> {
        let event = AuditEvent::new("role.assign").user(user_id).detail("role", role);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let before = lock(tx, user_id).await?;
                // Nobody deletes the role meanwhile, or makes more of it.
                lock_policies(tx).await?;
                authority::ensure_may_touch(tx, context, user_id).await?;
                if store::role_id(tx, role).await?.is_none() {
                    return Err(Error::RoleNotFound(role.to_owned()));
                }
                authority::ensure_may_give_role(tx, context, role).await?;
                if !before.roles.iter().any(|held| held == role) {
                    store::user_role_assign(tx, user_id, role).await?;
                    authority::ensure_fits_token(tx, user_id, "role").await?;
                    self.changed(tx, context, user_id, event).await?;
                }
                Ok(store::user_role_names(tx, user_id).await?)
            })
        })
        .await
    }

    /// Takes a role from a user. Gives the user's roles.
    pub(crate) async fn unassign_role(
        &self,
        context: &RequestContext,
        user_id: UserId,
        role: &str,
    ) -> Result<Vec<String>, Error> {
        let event = AuditEvent::new("role.unassign").user(user_id).detail("role", role);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let before = lock(tx, user_id).await?;
                authority::ensure_may_act_on(tx, context, user_id).await?;
                if store::role_id(tx, role).await?.is_none() {
                    return Err(Error::RoleNotFound(role.to_owned()));
                }
                if before.roles.iter().any(|held| held == role) {
                    if role == Role::Superuser.code_name() {
                        authority::ensure_superuser_remains_without(tx, user_id).await?;
                    }
                    store::user_role_unassign(tx, user_id, role).await?;
                    self.changed(tx, context, user_id, event).await?;
                }
                Ok(store::user_role_names(tx, user_id).await?)
            })
        })
        .await
    }

    /// Grants a permission to a user directly. Gives the user's direct grants.
    pub(crate) async fn grant_permission(
        &self,
        context: &RequestContext,
        user_id: UserId,
        permission: &PermissionName,
    ) -> Result<Vec<String>, Error> {
        let name = permission.to_string();
        let event = AuditEvent::new("permission.grant")
            .user(user_id)
            .detail("permission", &name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let before = lock(tx, user_id).await?;
                // Nobody deletes the permission meanwhile: the grant would be gone, and the user's tokens good.
                lock_policies(tx).await?;
                authority::ensure_may_touch(tx, context, user_id).await?;
                if store::permission_id(tx, &name).await?.is_none() {
                    return Err(Error::PermissionNotFound(name.clone()));
                }
                authority::ensure_may_give(tx, context, std::slice::from_ref(&name)).await?;
                if !before.direct.contains(&name) {
                    if before.direct.len() >= MAX_DIRECT_GRANTS {
                        let why = "would be more than the 100 that are granted to one user directly; use a role";
                        return Err(InvalidFields::one("permission", why).into());
                    }
                    store::user_permission_grant(tx, user_id, &name).await?;
                    authority::ensure_fits_token(tx, user_id, "permission").await?;
                    self.changed(tx, context, user_id, event).await?;
                }
                Ok(store::user_permission_names(tx, user_id).await?)
            })
        })
        .await
    }

    /// Takes a direct grant back. Gives the user's direct grants.
    pub(crate) async fn revoke_permission(
        &self,
        context: &RequestContext,
        user_id: UserId,
        permission: &PermissionName,
    ) -> Result<Vec<String>, Error> {
        let name = permission.to_string();
        let event = AuditEvent::new("permission.revoke")
            .user(user_id)
            .detail("permission", &name);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                lock(tx, user_id).await?;
                authority::ensure_may_act_on(tx, context, user_id).await?;
                if store::permission_id(tx, &name).await?.is_none() {
                    return Err(Error::PermissionNotFound(name.clone()));
                }
                if store::user_permission_revoke(tx, user_id, &name).await? {
                    self.changed(tx, context, user_id, event).await?;
                }
                Ok(store::user_permission_names(tx, user_id).await?)
            })
        })
        .await
    }

    /// What a user holds, and by what: the user's roles, and each permission by its name.
    pub(crate) async fn user_permissions(
        &self,
        user_id: UserId,
    ) -> Result<(Vec<String>, BTreeMap<String, Held>), Error> {
        let mut conn = self.db.read().await?;
        let user = store::user_by_id(&mut conn, user_id).await?;
        user.filter(|user| user.delete_time.is_none())
            .ok_or(Error::UserNotFound)?;
        let holdings = store::holdings(&mut conn, user_id).await?;
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        for (role, permission) in holdings.by_role {
            held.entry(permission).or_default().roles.push(role);
        }
        for permission in holdings.direct {
            held.entry(permission).or_default().is_direct = true;
        }
        Ok((holdings.roles, held))
    }

    /// Whether users may do things, all as of one moment.
    pub(crate) async fn check(&self, checks: &[(UserId, PermissionName)]) -> Result<Decisions, Error> {
        let mut snapshot = self.db.snapshot().await?;
        let conn = snapshot.conn();
        let head = store::feed_head(conn).await?;
        let head = head.ok_or_else(|| Error::Internal("the access feed has no head".to_owned()))?;
        let mut decisions = Vec::with_capacity(checks.len());
        for (user_id, permission) in checks {
            decisions.push(decide(conn, *user_id, &permission.to_string()).await?);
        }
        snapshot.end().await;
        Ok(Decisions { decisions, head })
    }

    /// Declares what the RPCs of the calling service need. Gives the names of the permissions that were new, sorted.
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
            let declaration = declared::declare(tx, owner, declared, now).await?;
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
            if declaration.created.is_empty() {
                return Ok(Vec::new());
            }
            let created: Vec<String> = declaration.created.into_iter().collect();
            AuditEvent::new("policies.register")
                .target("service_account", owner)
                .detail("permissions", created.join(" "))
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

    /// The user's tokens say what is no longer true.
    async fn changed(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user_id: UserId,
        event: AuditEvent,
    ) -> Result<(), Error> {
        let (_, stale) = revocation::make_stale(tx, user_id).await?;
        let now = self.clock.now();
        event.record(tx, context, now).await?;
        feed::publish(tx, vec![stale], now).await?;
        Ok(())
    }
}

/// Locks the user's row, and says what the user holds.
async fn lock(tx: &mut Conn, user_id: UserId) -> Result<Holdings, Error> {
    let user = store::user_lock(tx, user_id).await?;
    user.filter(|user| user.delete_time.is_none())
        .ok_or(Error::UserNotFound)?;
    Ok(store::holdings(tx, user_id).await?)
}

async fn decide(conn: &mut Conn, user_id: UserId, permission: &str) -> Result<Decision, Error> {
    let user = store::user_by_id(conn, user_id)
        .await?
        .filter(|user| user.delete_time.is_none());
    let Some(user) = user else {
        return Ok(Decision::UserUnknown);
    };
    if !user.is_active {
        return Ok(Decision::UserInactive);
    }
    if store::permission_id(conn, permission).await?.is_none() {
        return Ok(Decision::PermissionUnknown);
    }
    let holdings = store::holdings(conn, user_id).await?;
    if holdings.is_superuser() {
        return Ok(Decision::Superuser);
    }
    // The permission itself says more than the one for everything.
    let exact_first = |held: &&str| *held != permission;
    let mut by_role: Vec<_> = holdings
        .by_role
        .iter()
        .filter(|(_, held)| covers(held, permission))
        .collect();
    by_role.sort_by_key(|(_, held)| exact_first(&held.as_str()));
    if let Some((role, via)) = by_role.first() {
        return Ok(Decision::Role {
            role: role.clone(),
            via: via.clone(),
        });
    }
    let mut direct: Vec<_> = holdings.direct.iter().filter(|held| covers(held, permission)).collect();
    direct.sort_by_key(|held| exact_first(&held.as_str()));
    Ok(direct
        .first()
        .map_or(Decision::NotGranted, |via| Decision::DirectGrant {
            via: (*via).clone(),
        }))
}
