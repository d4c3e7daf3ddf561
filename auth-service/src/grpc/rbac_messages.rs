//! Roles, permissions and decisions as messages.

use ::proto::auth::v1::{self as proto, permission_decision::Reason};

use crate::{
    domain::{Decision, PermissionName, RoleWithPermissions, is_reserved_action, is_reserved_role},
    model::{Action, Permission, Resource},
};

pub(super) fn resource_message(row: Resource) -> proto::Resource {
    proto::Resource {
        code_name: row.code_name,
        name: row.name,
        description: row.description,
        owner: row.owner.unwrap_or_default(),
        create_time: Some(row.create_time.into()),
    }
}

pub(super) fn action_message(row: Action) -> proto::Action {
    proto::Action {
        is_reserved: is_reserved_action(&row.code_name),
        code_name: row.code_name,
        name: row.name,
        description: row.description,
        create_time: Some(row.create_time.into()),
    }
}

pub(super) fn permission_message(row: Permission) -> proto::Permission {
    let (resource, action) = row.name.split_once(':').unwrap_or_default();
    proto::Permission {
        resource: resource.to_owned(),
        action: action.to_owned(),
        name: row.name,
        description: row.description,
        is_declared: row.is_declared,
        create_time: Some(row.create_time.into()),
    }
}

pub(super) fn role_message(role: RoleWithPermissions) -> proto::Role {
    let RoleWithPermissions { role, permissions } = role;
    proto::Role {
        is_reserved: is_reserved_role(&role.code_name),
        code_name: role.code_name,
        name: role.name,
        description: role.description,
        permissions,
        create_time: Some(role.create_time.into()),
    }
}

pub(super) fn decision_message(decision: &Decision, permission: &PermissionName) -> proto::PermissionDecision {
    let none = String::new;
    let (reason, role, via, explanation) = match decision {
        Decision::Superuser => (
            Reason::Superuser,
            "superuser".to_owned(),
            permission.to_string(),
            format!("allowed {permission}: a superuser holds everything"),
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
            format!("denied {permission}: no role of the user holds it, and it is not granted directly"),
        ),
        Decision::PermissionUnknown => (
            Reason::PermissionUnknown,
            none(),
            none(),
            format!("denied {permission}: there is no such permission"),
        ),
        Decision::UserUnknown => (
            Reason::UserUnknown,
            none(),
            none(),
            format!("denied {permission}: there is no such user"),
        ),
        Decision::UserInactive => (
            Reason::UserInactive,
            none(),
            none(),
            format!("denied {permission}: the user was deactivated"),
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
