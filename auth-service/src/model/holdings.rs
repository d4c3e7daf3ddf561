//! The roles and permissions of a user.

use super::{ReservedAction, ReservedRole};

/// Roles and permissions of a user, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    /// Code names of the roles.
    pub(crate) roles: Vec<String>,
    /// Pairs of a role and a permission that it holds.
    pub(crate) by_role: Vec<(String, String)>,
    /// Names of the permissions that are granted directly.
    pub(crate) direct: Vec<String>,
}

/// The part of a user's holdings that an access token carries, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenHoldings {
    /// Code names of the roles.
    pub(crate) roles: Vec<String>,
    /// Names of the permissions that are granted directly.
    pub(crate) direct: Vec<String>,
}

impl Holdings {
    /// Returns whether the user holds every permission.
    pub(crate) fn is_superuser(&self) -> bool {
        self.roles.iter().any(|role| ReservedRole::Superuser.is(role))
    }

    /// Returns whether the user holds this permission, or the one for every action of its resource.
    pub(crate) fn holds(&self, permission: &str) -> bool {
        self.is_superuser() || self.names().any(|held| covers(held, permission))
    }

    /// Iterates over the permissions. A permission that is held in several ways appears several
    /// times.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let by_role = self.by_role.iter().map(|(_, permission)| permission);
        by_role.chain(&self.direct).map(String::as_str)
    }
}

/// Returns whether the permission `held` includes the permission `wanted`.
pub(crate) fn covers(held: &str, wanted: &str) -> bool {
    held == wanted
        || matches!(
            (held.split_once(':'), wanted.split_once(':')),
            (Some((resource, action)), Some((of, _))) if resource == of && ReservedAction::All.is(action)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_all_covers_every_action_of_its_resource() {
        for (held, wanted, expected) in [
            ("games:read", "games:read", true),
            ("games:all", "games:read", true),
            ("games:all", "games:all", true),
            ("games:read", "games:all", false),
            ("games:all", "game:read", false),
            ("all", "games:read", false),
        ] {
            assert_eq!(covers(held, wanted), expected, "{held} {wanted}");
        }
    }
}
