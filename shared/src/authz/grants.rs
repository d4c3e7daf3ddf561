//! Which role holds which permission.

use std::collections::{HashMap, HashSet};

use super::{Permission, Policies};
use crate::token::Principal;

/// The reserved role that holds every permission.
pub const SUPERUSER: &str = "superuser";

/// The action that stands for every action of its resource.
const ALL: &str = "all";

/// The permissions that each role holds: those for which the RPCs of a service name it in `default_roles`.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    by_role: HashMap<String, HashSet<Permission>>,
}

impl Grants {
    /// The grants that the policies declare.
    pub fn from_policies(policies: &Policies) -> Self {
        let mut by_role: HashMap<String, HashSet<Permission>> = HashMap::new();
        for (role, permission) in policies.default_grants() {
            by_role.entry(role.to_owned()).or_default().insert(permission.clone());
        }
        Self { by_role }
    }

    /// Whether the caller holds the permission: by a direct grant in the token, by a role, or as a superuser.
    pub fn allow(&self, principal: &Principal, permission: &Permission) -> bool {
        let all = Permission {
            resource: permission.resource.clone(),
            action: ALL.to_owned(),
        };
        let direct = |wanted: &Permission| principal.permissions().iter().any(|held| wanted.is_named(held));
        principal.has_role(SUPERUSER)
            || direct(permission)
            || direct(&all)
            || principal
                .roles()
                .iter()
                .filter_map(|role| self.by_role.get(role))
                .any(|held| held.contains(permission) || held.contains(&all))
    }
}

impl Permission {
    /// Whether `name` is this permission written `resource:action`.
    fn is_named(&self, name: &str) -> bool {
        name.split_once(':') == Some((&self.resource, &self.action))
    }
}
