//! Decisions: whether a user may do something, and why.

use base::ids::UserId;
use db::Conn;

use crate::{
    domain::{
        error::Error,
        rbac::{catalog::Rbac, code_name::PermissionName},
    },
    model::{FeedHead, covers},
    store,
};

/// Whether a user may do something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Superuser,
    /// A role gives the permission. `via` is the permission that the role holds.
    Role {
        role: String,
        via: String,
    },
    /// A direct grant gives the permission. `via` is the permission that is granted.
    DirectGrant {
        via: String,
    },
    NotGranted,
    PermissionUnknown,
    UserUnknown,
    UserInactive,
}

/// Decisions from one snapshot of the database.
#[derive(Debug)]
pub(crate) struct Decisions {
    pub(crate) decisions: Vec<Decision>,
    /// End of the access feed in that snapshot.
    pub(crate) head: FeedHead,
}

impl Rbac {
    /// Decides whether users may do things, all in one snapshot of the database.
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
}

async fn decide(conn: &mut Conn, user_id: UserId, permission: &str) -> Result<Decision, Error> {
    let user = store::user_by_id(conn, user_id)
        .await?
        .filter(|user| !user.is_deleted());
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
    // The permission itself explains more than the one for every action.
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
