//! Passwords in requests.

use base::validate::Fields;

use crate::domain::{Password, PasswordRules};

/// Checks a new password that is given twice. The arrays hold the names of the two fields, and
/// their contents.
pub(super) fn confirmed(
    fields: &mut Fields,
    rules: PasswordRules,
    [field, confirmation_field]: [&'static str; 2],
    [text, confirmation]: [&str; 2],
) -> Option<Password> {
    let password = fields.check(field, Password::chosen(text, rules));
    if confirmation.is_empty() {
        fields.reject(confirmation_field, "is required");
    } else if text != confirmation {
        fields.reject(confirmation_field, format!("must be the same as {field}"));
    }
    password
}

/// Checks the fields `new_password` and `new_password_confirmation`. The new password must differ
/// from the present one.
pub(super) fn replacing(
    fields: &mut Fields,
    rules: PasswordRules,
    present: Option<&Password>,
    text: &str,
    confirmation: &str,
) -> Option<Password> {
    let names = ["new_password", "new_password_confirmation"];
    let password = confirmed(fields, rules, names, [text, confirmation])?;
    if present.is_some_and(|present| present.is(&password)) {
        fields.reject("new_password", "must differ from the current password");
        return None;
    }
    Some(password)
}
