//! What the requests of `auth.v1.RbacService` ask for: every bad field is named at once.

use std::collections::{BTreeMap, BTreeSet};

use ::proto::auth::v1 as proto;
use base::{
    ids::{Kind, UserId},
    page::PageRequest,
    validate::{Fields, InvalidFields},
};

use super::fields;
use crate::domain::{CodeName, Declared, MAX_ROLE_PERMISSIONS, Named, PermissionName, Renaming};

const MAX_CHECKS: usize = 100;
const MAX_DECLARED: usize = 500;
const MAX_DEFAULT_ROLES: usize = 100;

pub(super) fn code_name(text: &str) -> Result<String, InvalidFields> {
    let mut bad = Fields::new();
    let code_name = fields::code_name(&mut bad, "code_name", text);
    bad.finish(|| code_name)
}

pub(super) fn permission_name(field: &'static str, text: &str) -> Result<PermissionName, InvalidFields> {
    let mut bad = Fields::new();
    let name = fields::permission_name(&mut bad, field, text);
    bad.finish(|| name)
}

pub(super) fn page<K: Kind>(size: i32, token: &str, list: &str) -> Result<PageRequest<K>, InvalidFields> {
    let mut bad = Fields::new();
    let page = PageRequest::parse(&mut bad, size, token, list);
    bad.finish(|| page)
}

/// The names of the fields of a thing that is nested in the request.
struct Paths {
    code_name: &'static str,
    name: &'static str,
    description: &'static str,
}

fn paths(of: &str) -> Paths {
    match of {
        "resource" => Paths {
            code_name: "resource.code_name",
            name: "resource.name",
            description: "resource.description",
        },
        "action" => Paths {
            code_name: "action.code_name",
            name: "action.name",
            description: "action.description",
        },
        _ => Paths {
            code_name: "role.code_name",
            name: "role.name",
            description: "role.description",
        },
    }
}

pub(super) fn named_in(bad: &mut Fields, of: &str, code_name: &str, name: &str, description: &str) -> Option<Named> {
    let paths = paths(of);
    let code_name = fields::code_name(bad, paths.code_name, code_name);
    let name = fields::name(bad, paths.name, name);
    let description = fields::description(bad, paths.description, description);
    Some(Named {
        code_name: code_name?,
        name: name?,
        description: description?,
    })
}

pub(super) fn named(of: &str, code_name: &str, name: &str, description: &str) -> Result<Named, InvalidFields> {
    let mut bad = Fields::new();
    let named = named_in(&mut bad, of, code_name, name, description);
    bad.finish(|| named)
}

pub(super) fn renaming(
    of: &str,
    mask: Option<&prost_types::FieldMask>,
    code_name: &str,
    name: &str,
    description: &str,
) -> Result<(String, Renaming), InvalidFields> {
    let mut bad = Fields::new();
    let new = named_in(&mut bad, of, code_name, name, description);
    let changeable = [("name", !name.is_empty()), ("description", !description.is_empty())];
    let changing = fields::update_mask(&mut bad, mask, &changeable);
    bad.finish(|| {
        let new = new?;
        let change = Renaming {
            name: changing.contains(&"name").then_some(new.name),
            description: changing.contains(&"description").then_some(new.description),
        };
        Some((new.code_name, change))
    })
}

pub(super) fn new_permission(
    request: proto::CreatePermissionRequest,
) -> Result<(PermissionName, String), InvalidFields> {
    let permission = request.permission.unwrap_or_default();
    let mut bad = Fields::new();
    let description = fields::description(&mut bad, "permission.description", &permission.description);
    let name = if permission.name.is_empty() {
        let resource = fields::code_name(&mut bad, "permission.resource", &permission.resource);
        let action = fields::code_name(&mut bad, "permission.action", &permission.action);
        resource
            .zip(action)
            .map(|(resource, action)| PermissionName { resource, action })
    } else {
        let name = fields::permission_name(&mut bad, "permission.name", &permission.name);
        let agrees = |part: &str, given: &str| given.is_empty() || given == part;
        if name.as_ref().is_some_and(|name| {
            !agrees(&name.resource, &permission.resource) || !agrees(&name.action, &permission.action)
        }) {
            bad.reject("permission.name", "must agree with resource and action");
        }
        name
    };
    bad.finish(|| Some((name?, description?)))
}

pub(super) fn permissions_of_role(bad: &mut Fields, field: &'static str, names: &[String]) {
    if i64::try_from(names.len()).is_ok_and(|count| count > MAX_ROLE_PERMISSIONS) {
        bad.reject(field, format!("must have at most {MAX_ROLE_PERMISSIONS} elements"));
    } else {
        fields::permission_names(bad, field, names);
    }
}

pub(super) fn distinct(names: Vec<String>) -> Vec<String> {
    let names: BTreeSet<String> = names.into_iter().collect();
    names.into_iter().collect()
}

pub(super) fn checks(checks: &[proto::PermissionCheck]) -> Result<Vec<(UserId, PermissionName)>, InvalidFields> {
    let mut bad = Fields::new();
    if !(1..=MAX_CHECKS).contains(&checks.len()) {
        bad.reject("checks", "must have 1 to 100 elements");
        return bad.finish(|| None);
    }
    let mut parsed = Vec::with_capacity(checks.len());
    for (index, check) in checks.iter().enumerate() {
        let user_id = check.user_id.parse().map_err(|error| format!("{error}"));
        let permission = check.permission.parse::<PermissionName>();
        if let Err(error) = &user_id {
            bad.reject(format!("checks[{index}].user_id"), error.clone());
        }
        if let Err(error) = &permission {
            bad.reject(format!("checks[{index}].permission"), error.to_string());
        }
        if let (Ok(user_id), Ok(permission)) = (user_id, permission) {
            parsed.push((user_id, permission));
        }
    }
    bad.finish(|| Some(parsed))
}

pub(super) fn declared(permissions: Vec<proto::DeclaredPermission>) -> Result<Vec<Declared>, InvalidFields> {
    let mut bad = Fields::new();
    if !(1..=MAX_DECLARED).contains(&permissions.len()) {
        bad.reject("permissions", "must have 1 to 500 elements");
        return bad.finish(|| None);
    }
    // Of an RPC each: several may need the same permission, and each may say who has it at first.
    let mut parsed: BTreeMap<String, Declared> = BTreeMap::new();
    for (index, declared) in permissions.into_iter().enumerate() {
        let mut check = |field: &str, text: &str| {
            text.parse::<CodeName>()
                .map(CodeName::into_string)
                .map_err(|error| bad.reject(format!("permissions[{index}].{field}"), error.to_string()))
                .ok()
        };
        let (resource, action) = (check("resource", &declared.resource), check("action", &declared.action));
        if declared.default_roles.len() <= MAX_DEFAULT_ROLES {
            for role in &declared.default_roles {
                check("default_roles", role);
            }
        } else {
            let field = format!("permissions[{index}].default_roles");
            bad.reject(field, "must have at most 100 elements");
            continue;
        }
        if declared.action == "all" {
            bad.reject(
                format!("permissions[{index}].action"),
                "must be a single action: all stands for every action",
            );
        }
        if declared.default_roles.iter().any(|role| role == "superuser") {
            let field = format!("permissions[{index}].default_roles");
            bad.reject(field, "must not include superuser, which holds every permission");
        }
        if let (Some(resource), Some(action)) = (resource, action) {
            let permission = PermissionName { resource, action };
            let entry = parsed.entry(permission.to_string()).or_insert_with(|| Declared {
                permission,
                default_roles: BTreeSet::new(),
            });
            entry.default_roles.extend(declared.default_roles);
        }
    }
    bad.finish(|| Some(parsed.into_values().collect()))
}
