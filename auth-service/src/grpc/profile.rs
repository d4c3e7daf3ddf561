//! Changes of a profile in a request.

use base::validate::{Fields, InvalidFields};
use prost_types::FieldMask;
use proto::auth::v1::User;

use super::fields;
use crate::domain::ProfileChanges;

/// Reads the changes: the fields of `user` in the mask, or without a mask the fields that are not
/// empty. `fields` holds the earlier checks of the same request.
pub(super) fn changes(
    mut fields: Fields,
    user: Option<&User>,
    mask: Option<&FieldMask>,
) -> Result<ProfileChanges, InvalidFields> {
    let Some(user) = user else {
        fields.reject("user", "is required");
        return fields.finish(|| None);
    };
    let changeable = [
        ("email", !user.email.is_empty()),
        ("login", !user.login.is_empty()),
        ("first_name", !user.first_name.is_empty()),
        ("last_name", !user.last_name.is_empty()),
        ("middle_name", !user.middle_name.is_empty()),
        ("locale", !user.locale.is_empty()),
    ];
    let mut changes = ProfileChanges::default();
    for field in fields::update_mask(&mut fields, mask, &changeable) {
        match field {
            "email" => changes.email = fields.check(field, user.email.parse()),
            "login" => changes.login = fields.check(field, user.login.parse()),
            "first_name" => changes.first_name = fields.check(field, user.first_name.parse()),
            "last_name" => changes.last_name = fields.check(field, user.last_name.parse()),
            "locale" => changes.locale = fields.check(field, user.locale.parse()),
            _ => changes.middle_name = fields.check("middle_name", user.middle_name.parse()),
        }
    }
    fields.finish(|| Some(changes))
}
