//! Permissions that each role holds.

use std::collections::{HashMap, HashSet};

use super::{Permission, Policies, PolicyError};
use crate::token::Principal;

/// Reserved role that holds every permission.
pub const SUPERUSER: &str = "superuser";

/// Wildcard action, which grants every action on its resource.
const ALL: &str = "all";

/// Permissions that each role holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    by_role: HashMap<String, RolePermissions>,
}

/// Permissions of one role. Actions are grouped by resource, so that a look-up does not allocate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RolePermissions {
    actions: HashMap<String, HashSet<String>>,
}

impl Grants {
    /// Collects the grants that the RPCs of a service declare: each role in `default_roles` holds
    /// the permission that names it.
    pub fn from_policies(policies: &Policies) -> Self {
        let mut grants = Self::default();
        for (role, permission) in policies.default_grants() {
            let held = grants.by_role.entry(role.to_owned()).or_default();
            held.insert(&permission.resource, &permission.action);
        }
        grants
    }

    /// Collects the same grants from the encoded descriptor set of the service.
    pub fn from_descriptor_set(encoded: &[u8]) -> Result<Self, PolicyError> {
        Policies::from_descriptor_set(encoded).map(|policies| Self::from_policies(&policies))
    }

    /// Replaces the permissions of the role. Each is written `resource:action`; a name in any other
    /// form grants nothing.
    pub fn set<'a>(&mut self, role: impl Into<String>, permissions: impl IntoIterator<Item = &'a str>) {
        let mut held = RolePermissions::default();
        for (resource, action) in permissions.into_iter().filter_map(|name| name.split_once(':')) {
            held.insert(resource, action);
        }
        self.by_role.insert(role.into(), held);
    }

    /// Removes the role and all its permissions.
    pub fn remove(&mut self, role: &str) {
        self.by_role.remove(role);
    }

    /// Returns whether the caller holds the permission: by a direct grant in the token, by a role,
    /// or as a superuser.
    pub fn allow(&self, principal: &Principal, permission: &Permission) -> bool {
        principal.has_role(SUPERUSER)
            || principal
                .permissions()
                .iter()
                .any(|held| permission.is_granted_by(held))
            || principal
                .roles()
                .iter()
                .filter_map(|role| self.by_role.get(role))
                .any(|held| held.contains(permission))
    }
}

impl RolePermissions {
    fn insert(&mut self, resource: &str, action: &str) {
        self.actions
            .entry(resource.to_owned())
            .or_default()
            .insert(action.to_owned());
    }

    fn contains(&self, permission: &Permission) -> bool {
        self.actions
            .get(&permission.resource)
            .is_some_and(|actions| actions.contains(&permission.action) || actions.contains(ALL))
    }
}

impl Permission {
    /// Returns whether `name` grants this permission: as `resource:action`, or as `resource:all`.
    fn is_granted_by(&self, name: &str) -> bool {
        name.split_once(':')
            .is_some_and(|(resource, action)| resource == self.resource && (action == self.action || action == ALL))
    }
}

#[cfg(test)]
mod tests {
    use proto::game::v1::FILE_DESCRIPTOR_SET;

    use super::*;

    #[test]
    fn roles_initially_hold_the_permissions_declared_for_them() {
        let grants = Grants::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("readable");
        let player = &grants.by_role["player"];
        let permission = |resource: &str, action: &str| Permission {
            resource: resource.to_owned(),
            action: action.to_owned(),
        };
        assert!(player.contains(&permission("games", "create")));
        assert!(!player.contains(&permission("history", "read_all")));
        let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("readable");
        assert_eq!(grants, Grants::from_policies(&policies));
    }
}
