//! Grants: roles and permissions are given to users and taken from them.

use std::collections::BTreeMap;

use base::{ids::UserId, validate::InvalidFields};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed,
        rbac::{authority, catalog::Rbac, lock::lock_policies},
        request_context::RequestContext,
        sessions::revocation,
    },
    model::{Holdings, ReservedRole, User},
    store,
};

/// Maximum number of permissions that are granted to one user directly. An access token carries all
/// of them.
const MAX_DIRECT_GRANTS: usize = 100;

/// A role or a permission that users are given.
#[derive(Clone, Debug)]
pub(crate) enum Grant {
    /// The role with this code name.
    Role(String),
    /// The permission with this name.
    Permission(String),
}

/// The sources of a permission that a user holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct PermissionSources {
    /// Code names of roles, sorted.
    pub(crate) roles: Vec<String>,
    /// Whether the permission is granted to the user directly.
    pub(crate) is_direct: bool,
}

impl Rbac {
    /// Gives a user a role or a permission. Returns the roles, or the direct grants, that the user
    /// has now.
    pub(crate) async fn give(
        &self,
        context: &RequestContext,
        user_id: UserId,
        grant: &Grant,
    ) -> Result<Vec<String>, Error> {
        let event = grant.event("role.assign", "permission.grant", user_id);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let (user, held) = lock(tx, user_id).await?;
                let mut held = grant.of_kind(held);
                // The lock keeps the role or permission from being deleted in the meantime, which
                // would leave the user's tokens valid. It also keeps the role from gaining
                // permissions after the check below.
                lock_policies(tx).await?;
                authority::ensure_superuser_to_act_on_superuser(tx, context, user_id).await?;
                grant.ensure_exists(tx).await?;
                grant.ensure_may_give(tx, context).await?;
                grant.ensure_not_of_guests()?;
                if user.is_guest {
                    return Err(Error::GuestAccount);
                }
                if !held.contains(grant.name()) {
                    grant.insert(tx, user_id, held.len()).await?;
                    authority::ensure_fits_token(tx, user_id, grant.field()).await?;
                    self.changed(tx, context, user_id, event).await?;
                    held.push(grant.name().clone());
                    held.sort();
                }
                Ok(held)
            })
        })
        .await
    }

    /// Takes a role or a direct grant from a user. Returns the roles, or the direct grants, that
    /// are left.
    pub(crate) async fn take(
        &self,
        context: &RequestContext,
        user_id: UserId,
        grant: &Grant,
    ) -> Result<Vec<String>, Error> {
        let event = grant.event("role.unassign", "permission.revoke", user_id);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let (user, held) = lock(tx, user_id).await?;
                let mut held = grant.of_kind(held);
                lock_policies(tx).await?;
                authority::ensure_may_act_on(tx, context, user_id).await?;
                grant.ensure_exists(tx).await?;
                if user.is_guest {
                    grant.ensure_not_of_guests()?;
                }
                if held.contains(grant.name()) {
                    grant.delete(tx, user_id).await?;
                    self.changed(tx, context, user_id, event).await?;
                    held.retain(|name| name != grant.name());
                } else {
                    feed::settle(tx).await?;
                }
                Ok(held)
            })
        })
        .await
    }

    /// Returns what a user holds: the roles, and the sources of each permission by its name.
    pub(crate) async fn user_permissions(
        &self,
        user_id: UserId,
    ) -> Result<(Vec<String>, BTreeMap<String, PermissionSources>), Error> {
        let mut conn = self.db.read().await?;
        let user = store::user_by_id(&mut conn, user_id).await?;
        user.filter(|user| !user.is_deleted()).ok_or(Error::UserNotFound)?;
        let holdings = store::holdings(&mut conn, user_id).await?;
        let mut sources: BTreeMap<String, PermissionSources> = BTreeMap::new();
        for (role, permission) in holdings.by_role {
            sources.entry(permission).or_default().roles.push(role);
        }
        for permission in holdings.direct {
            sources.entry(permission).or_default().is_direct = true;
        }
        Ok((holdings.roles, sources))
    }

    /// Makes the user's tokens stale, because the user's holdings have changed. Writes the event.
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

impl Grant {
    const fn name(&self) -> &String {
        match self {
            Self::Role(name) | Self::Permission(name) => name,
        }
    }

    /// Returns the field of requests and audit events that holds the name.
    const fn field(&self) -> &'static str {
        match self {
            Self::Role(_) => "role",
            Self::Permission(_) => "permission",
        }
    }

    fn event(&self, role: &'static str, permission: &'static str, user_id: UserId) -> AuditEvent {
        let action = match self {
            Self::Role(_) => role,
            Self::Permission(_) => permission,
        };
        AuditEvent::new(action).user(user_id).detail(self.field(), self.name())
    }

    /// Returns the names of the same kind that a user holds.
    fn of_kind(&self, holdings: Holdings) -> Vec<String> {
        match self {
            Self::Role(_) => holdings.roles,
            Self::Permission(_) => holdings.direct,
        }
    }

    async fn ensure_exists(&self, tx: &mut Conn) -> Result<(), Error> {
        match self {
            Self::Role(name) if store::role_id(tx, name).await?.is_none() => Err(Error::RoleNotFound(name.clone())),
            Self::Permission(name) if store::permission_id(tx, name).await?.is_none() => {
                Err(Error::PermissionNotFound(name.clone()))
            }
            Self::Role(_) | Self::Permission(_) => Ok(()),
        }
    }

    /// Refuses the role `guest`, which all guests and no other users hold.
    fn ensure_not_of_guests(&self) -> Result<(), Error> {
        match self {
            Self::Role(name) => ensure_not_of_guests(name),
            Self::Permission(_) => Ok(()),
        }
    }

    async fn ensure_may_give(&self, tx: &mut Conn, context: &RequestContext) -> Result<(), Error> {
        match self {
            Self::Role(name) => authority::ensure_may_give_role(tx, context, name).await,
            Self::Permission(name) => authority::ensure_may_give(tx, context, std::slice::from_ref(name)).await,
        }
    }

    /// Stores the grant. `count` is the number of the same kind that the user already holds.
    async fn insert(&self, tx: &mut Conn, user_id: UserId, count: usize) -> Result<(), Error> {
        match self {
            Self::Role(name) => store::user_role_assign(tx, user_id, name).await?,
            Self::Permission(_) if count >= MAX_DIRECT_GRANTS => {
                let why = "would exceed the limit of 100 direct grants for each user; use a role";
                return Err(InvalidFields::one(self.field(), why).into());
            }
            Self::Permission(name) => store::user_permission_grant(tx, user_id, name).await?,
        };
        Ok(())
    }

    async fn delete(&self, tx: &mut Conn, user_id: UserId) -> Result<(), Error> {
        match self {
            Self::Role(name) => {
                if ReservedRole::Superuser.is(name) {
                    authority::ensure_not_last_superuser(tx, user_id).await?;
                }
                store::user_role_unassign(tx, user_id, name).await?
            }
            Self::Permission(name) => store::user_permission_revoke(tx, user_id, name).await?,
        };
        Ok(())
    }
}

/// Refuses to give or take the role `guest`, which all guests and no other users hold.
pub(in crate::domain) fn ensure_not_of_guests(role: &str) -> Result<(), Error> {
    if ReservedRole::Guest.is(role) {
        return Err(Error::Reserved(
            "all guests and no other users hold this role: RegisterGuest gives it, and UpgradeAccount takes it",
        ));
    }
    Ok(())
}

/// Locks the user's row, and returns the user and what they hold.
async fn lock(tx: &mut Conn, user_id: UserId) -> Result<(User, Holdings), Error> {
    let user = store::user_lock(tx, user_id).await?;
    let user = user.filter(|user| !user.is_deleted()).ok_or(Error::UserNotFound)?;
    Ok((user, store::holdings(tx, user_id).await?))
}
