//! Parses the requests of `auth.v1.RbacService`. An error names all invalid fields at once.

use std::collections::{BTreeMap, BTreeSet};

use ::proto::auth::v1 as proto;
use base::{
    ids::{Kind, UserId},
    page::PageRequest,
    validate::{Fields, InvalidFields},
};

use super::fields;
use crate::{
    domain::{CodeName, Declared, EntryChange, Grant, MAX_ROLE_PERMISSIONS, PermissionName},
    model::{EntryNames, ReservedAction, ReservedRole},
};

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

/// A message with a code name, a name and a description, nested in a request.
pub(super) trait EntryMessage {
    /// Paths of the code name, the name and the description in the request.
    const PATHS: [&'static str; 3];

    /// Returns the code name, the name and the description.
    fn names(&self) -> [&str; 3];
}

macro_rules! entry_messages {
    ($($message:ident in $field:literal),+) => {$(
        impl EntryMessage for proto::$message {
            const PATHS: [&'static str; 3] = [
                concat!($field, ".code_name"),
                concat!($field, ".name"),
                concat!($field, ".description"),
            ];

            fn names(&self) -> [&str; 3] {
                [&self.code_name, &self.name, &self.description]
            }
        }
    )+};
}

entry_messages!(Resource in "resource", Action in "action", Role in "role");

pub(super) fn names_in<M: EntryMessage>(bad: &mut Fields, message: &M) -> Option<EntryNames> {
    let [code_name, name, description] = message.names();
    let code_name = fields::code_name(bad, M::PATHS[0], code_name);
    let name = fields::name(bad, M::PATHS[1], name);
    let description = fields::description(bad, M::PATHS[2], description);
    Some(EntryNames {
        code_name: code_name?,
        name: name?,
        description: description?,
    })
}

pub(super) fn names<M: EntryMessage + Default>(message: Option<M>) -> Result<EntryNames, InvalidFields> {
    let mut bad = Fields::new();
    let names = names_in(&mut bad, &message.unwrap_or_default());
    bad.finish(|| names)
}

/// Reads the code name of an entry, and the changes to it.
pub(super) fn change<M: EntryMessage + Default>(
    message: Option<M>,
    mask: Option<&prost_types::FieldMask>,
) -> Result<(String, EntryChange), InvalidFields> {
    let message = message.unwrap_or_default();
    let mut bad = Fields::new();
    let new = names_in(&mut bad, &message);
    let [_, name, description] = message.names();
    let changeable = [("name", !name.is_empty()), ("description", !description.is_empty())];
    let changing = fields::update_mask(&mut bad, mask, &changeable);
    bad.finish(|| {
        let new = new?;
        let change = EntryChange {
            name: changing.contains(&"name").then_some(new.name),
            description: changing.contains(&"description").then_some(new.description),
        };
        Some((new.code_name, change))
    })
}

pub(super) fn role_grant(user_id: &str, role: &str) -> Result<(UserId, Grant), InvalidFields> {
    let mut bad = Fields::new();
    let user_id = bad.id("user_id", user_id);
    let role = fields::code_name(&mut bad, "role", role);
    bad.finish(|| Some((user_id?, Grant::Role(role?))))
}

pub(super) fn permission_grant(user_id: &str, permission: &str) -> Result<(UserId, Grant), InvalidFields> {
    let (user_id, permission) = user_and_permission(user_id, permission)?;
    Ok((user_id, Grant::Permission(permission.to_string())))
}

pub(super) fn user_and_permission(user_id: &str, permission: &str) -> Result<(UserId, PermissionName), InvalidFields> {
    let mut bad = Fields::new();
    let user_id = bad.id("user_id", user_id);
    let permission = fields::permission_name(&mut bad, "permission", permission);
    bad.finish(|| Some((user_id?, permission?)))
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
    // Each element belongs to an RPC. Several RPCs may need the same permission, and each may name
    // roles that hold it from the start.
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
        if ReservedAction::All.is(&declared.action) {
            bad.reject(
                format!("permissions[{index}].action"),
                "must not be `all`, which stands for every action",
            );
        }
        if declared
            .default_roles
            .iter()
            .any(|role| ReservedRole::Superuser.is(role))
        {
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
