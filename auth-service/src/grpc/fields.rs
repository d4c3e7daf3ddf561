//! Checks of fields that occur in several requests.

use base::validate::Fields;
use prost_types::FieldMask;

use crate::domain::{CodeName, PermissionName};

const MAX_NAME_LEN: usize = 100;
const MAX_DESCRIPTION_LEN: usize = 1000;
/// Maximum size of a character in UTF-8, in bytes.
const MAX_CHAR_LEN: usize = 4;
/// Maximum number of values in any repeated field. The limits of the single fields are lower, and
/// count distinct values.
const MAX_VALUES: usize = 1000;

/// Checks a description for people: at most 1000 characters.
pub(super) fn description(fields: &mut Fields, field: &'static str, text: &str) -> Option<String> {
    let is_long = text.len() > MAX_DESCRIPTION_LEN * MAX_CHAR_LEN;
    let text = text.trim();
    if is_long || text.chars().count() > MAX_DESCRIPTION_LEN || text.contains('\0') {
        fields.reject(field, "must be at most 1000 characters, none of them NUL");
        return None;
    }
    Some(text.to_owned())
}

/// Checks a name for people: at most 100 characters.
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

/// Checks the code name in a required field.
pub(super) fn code_name(fields: &mut Fields, field: &'static str, text: &str) -> Option<String> {
    if text.is_empty() {
        fields.reject(field, "is required");
        return None;
    }
    fields.check(field, text.parse::<CodeName>()).map(CodeName::into_string)
}

/// Checks the code names in a repeated field. Errors name the invalid ones by their index.
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

/// Rejects a repeated field that holds more values than any field may.
fn is_too_many(fields: &mut Fields, field: &'static str, count: usize) -> bool {
    let is_too_many = count > MAX_VALUES;
    if is_too_many {
        fields.reject(field, format!("must have at most {MAX_VALUES} elements"));
    }
    is_too_many
}

/// Sorts the values and drops duplicates. Rejects the field if there are then more than `max`.
pub(super) fn distinct(fields: &mut Fields, field: &'static str, mut texts: Vec<String>, max: usize) -> Vec<String> {
    if texts.len() > MAX_VALUES {
        // The field was rejected when its values were checked.
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

/// Checks the name of a permission in a required field.
pub(super) fn permission_name(fields: &mut Fields, field: &'static str, text: &str) -> Option<PermissionName> {
    if text.is_empty() {
        fields.reject(field, "is required");
        return None;
    }
    fields.check(field, text.parse())
}

/// Checks the names of permissions in a repeated field. Errors name the invalid ones by their
/// index.
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

/// Returns the changeable fields that the request changes (AIP-161): the fields in the mask, or
/// without a mask the fields that are not empty.
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
