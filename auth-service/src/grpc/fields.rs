//! Checks of fields that several requests have.

use base::validate::Fields;
use prost_types::FieldMask;

use crate::domain::{CodeName, PermissionName};

const MAX_NAME_LEN: usize = 100;
const MAX_DESCRIPTION_LEN: usize = 1000;
/// Bytes of a character in UTF-8, at most.
const MAX_CHAR_LEN: usize = 4;
/// Values of a repeated field, at most, whatever they are. The limits of each field are lower, and
/// count distinct values.
const MAX_VALUES: usize = 1000;

/// A description for people: at most 1000 characters.
pub(super) fn description(fields: &mut Fields, field: &'static str, text: &str) -> Option<String> {
    let is_long = text.len() > MAX_DESCRIPTION_LEN * MAX_CHAR_LEN;
    let text = text.trim();
    if is_long || text.chars().count() > MAX_DESCRIPTION_LEN || text.contains('\0') {
        fields.reject(field, "must be at most 1000 characters, none of them NUL");
        return None;
    }
    Some(text.to_owned())
}

/// A name for people: at most 100 characters.
pub(super) fn name(fields: &mut Fields, field: &'static str, text: &str) -> Option<String> {
    let is_long = text.len() > MAX_NAME_LEN * MAX_CHAR_LEN;
    let text = text.trim();
    if is_long || text.chars().count() > MAX_NAME_LEN || text.chars().any(char::is_control) {
        fields.reject(
            field,
            "must be at most 100 characters, none of them a control character",
        );
        return None;
    }
    Some(text.to_owned())
}

/// The code name in a required field.
pub(super) fn code_name(fields: &mut Fields, field: &'static str, text: &str) -> Option<String> {
    if text.is_empty() {
        fields.reject(field, "is required");
        return None;
    }
    fields.check(field, text.parse::<CodeName>()).map(CodeName::into_string)
}

/// Code names in a repeated field. The bad ones are named by their index.
pub(super) fn code_names(fields: &mut Fields, field: &'static str, texts: &[String]) {
    if is_too_many(fields, field, texts.len()) {
        return;
    }
    for (index, text) in texts.iter().enumerate() {
        if let Err(error) = text.parse::<CodeName>() {
            fields.reject(format!("{field}[{index}]"), error.to_string());
        }
    }
}

/// Rejects a repeated field that holds more values than any may.
fn is_too_many(fields: &mut Fields, field: &'static str, count: usize) -> bool {
    let is_too_many = count > MAX_VALUES;
    if is_too_many {
        fields.reject(field, format!("must have at most {MAX_VALUES} elements"));
    }
    is_too_many
}

/// The same, at most this many, each once and sorted.
pub(super) fn distinct(fields: &mut Fields, field: &'static str, mut texts: Vec<String>, max: usize) -> Vec<String> {
    if texts.len() > MAX_VALUES {
        // It was rejected when the values were looked at.
        return Vec::new();
    }
    texts.sort();
    texts.dedup();
    if texts.len() > max {
        fields.reject(field, format!("must have at most {max} elements"));
        texts.clear();
    }
    texts
}

/// The name of a permission in a required field.
pub(super) fn permission_name(fields: &mut Fields, field: &'static str, text: &str) -> Option<PermissionName> {
    if text.is_empty() {
        fields.reject(field, "is required");
        return None;
    }
    fields.check(field, text.parse())
}

/// Names of permissions in a repeated field. The bad ones are named by their index.
pub(super) fn permission_names(fields: &mut Fields, field: &'static str, texts: &[String]) {
    if is_too_many(fields, field, texts.len()) {
        return;
    }
    for (index, text) in texts.iter().enumerate() {
        if let Err(error) = text.parse::<PermissionName>() {
            fields.reject(format!("{field}[{index}]"), error.to_string());
        }
    }
}

/// Which of the fields that may change do (AIP-161): those in the mask, or without one those that
/// are not empty.
pub(super) fn update_mask<'a>(
    fields: &mut Fields,
    mask: Option<&FieldMask>,
    changeable: &[(&'a str, bool)],
) -> Vec<&'a str> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return changeable
            .iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(name, _)| *name)
            .collect();
    }
    let mut changing = Vec::new();
    if is_too_many(fields, "update_mask", paths.len()) {
        return changing;
    }
    for path in paths {
        if path == "*" {
            return changeable.iter().map(|(name, _)| *name).collect();
        }
        let Some((name, _)) = changeable.iter().find(|(name, _)| name == path) else {
            let names: Vec<&str> = changeable.iter().map(|(name, _)| *name).collect();
            fields.reject("update_mask", format!("can only contain {}", names.join(", ")));
            break;
        };
        changing.push(*name);
    }
    changing
}
