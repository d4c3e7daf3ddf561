//! Roles, permissions and decisions as messages.

use ::proto::auth::v1::{self as proto, permission_decision::Reason};

use crate::domain::{
    ActionRow, Decision, PermissionName, PermissionRow, ResourceRow, RoleWithPermissions, is_reserved_action,
    is_reserved_role,
};

pub(super) fn resource_message(row: ResourceRow) -> proto::Resource {
    proto::Resource {
        code_name: row.code_name,
        name: row.name,
        description: row.description,
        owner: row.owner.unwrap_or_default(),
        create_time: Some(row.create_time.into()),
    }
}

pub(super) fn action_message(row: ActionRow) -> proto::Action {
    proto::Action {
        is_reserved: is_reserved_action(&row.code_name),
        code_name: row.code_name,
        name: row.name,
        description: row.description,
        create_time: Some(row.create_time.into()),
    }
}

pub(super) fn permission_message(row: PermissionRow) -> proto::Permission {
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
