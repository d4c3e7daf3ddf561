//! Converts roles, permissions and decisions to messages.

use ::proto::auth::v1::{self as proto, permission_decision::Reason};

use crate::{
    domain::{Decision, PermissionName, RoleWithPermissions},
    model::{Action, Permission, ReservedAction, ReservedRole, Resource},
};

impl From<Resource> for proto::Resource {
    fn from(resource: Resource) -> Self {
        Self {
            code_name: resource.code_name,
            name: resource.name,
            description: resource.description,
            owner: resource.owner.unwrap_or_default(),
            create_time: Some(resource.create_time.into()),
        }
    }
}

impl From<Action> for proto::Action {
    fn from(action: Action) -> Self {
        Self {
            is_reserved: ReservedAction::parse(&action.code_name).is_some(),
            code_name: action.code_name,
            name: action.name,
            description: action.description,
            create_time: Some(action.create_time.into()),
        }
    }
}

impl From<Permission> for proto::Permission {
    fn from(permission: Permission) -> Self {
        let (resource, action) = permission.name.split_once(':').unwrap_or_default();
        Self {
            resource: resource.to_owned(),
            action: action.to_owned(),
            name: permission.name,
            description: permission.description,
            is_declared: permission.is_declared,
            create_time: Some(permission.create_time.into()),
        }
    }
}

impl From<RoleWithPermissions> for proto::Role {
    fn from(RoleWithPermissions { role, permissions }: RoleWithPermissions) -> Self {
        Self {
            is_reserved: ReservedRole::parse(&role.code_name).is_some(),
            code_name: role.code_name,
            name: role.name,
            description: role.description,
            permissions,
            create_time: Some(role.create_time.into()),
        }
    }
}

pub(super) fn decision_message(decision: &Decision, permission: &PermissionName) -> proto::PermissionDecision {
    let none = String::new;
    let (reason, role, via, explanation) = match decision {
        Decision::Superuser => (
            Reason::Superuser,
            ReservedRole::Superuser.code_name().to_owned(),
            permission.to_string(),
            format!("allowed {permission}: the user is a superuser"),
        ),
        Decision::Role { role, via } => (
            Reason::Role,
            role.clone(),
            via.clone(),
            format!("allowed {permission}: the role {role} holds {via}"),
        ),
        Decision::DirectGrant { via } => (
            Reason::DirectGrant,
            none(),
            via.clone(),
            format!("allowed {permission}: {via} is granted to the user directly"),
        ),
        Decision::NotGranted => (
            Reason::NotGranted,
            none(),
            none(),
            format!("denied {permission}: no role and no direct grant of the user gives it"),
        ),
        Decision::PermissionUnknown => (
            Reason::PermissionUnknown,
            none(),
            none(),
            format!("denied {permission}: the permission does not exist"),
        ),
        Decision::UserUnknown => (
            Reason::UserUnknown,
            none(),
            none(),
            format!("denied {permission}: the user does not exist"),
        ),
        Decision::UserInactive => (
            Reason::UserInactive,
            none(),
            none(),
            format!("denied {permission}: the user has been deactivated"),
        ),
    };
    proto::PermissionDecision {
        allowed: matches!(reason, Reason::Superuser | Reason::Role | Reason::DirectGrant),
        reason: reason.into(),
        role,
        via,
        explanation,
    }
}
