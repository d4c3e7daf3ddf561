//! Passwords in requests.

use shared::validate::Fields;

use crate::domain::Password;

/// A new password that is given twice: the names of the two fields, and what is in them.
pub(super) fn confirmed(
    fields: &mut Fields,
    [field, confirmation_field]: [&'static str; 2],
    [text, confirmation]: [&str; 2],
) -> Option<Password> {
    let password = fields.check(field, Password::chosen(text));
    if confirmation.is_empty() {
        fields.reject(confirmation_field, "is required");
    } else if text != confirmation {
        fields.reject(confirmation_field, format!("must be the same as {field}"));
    }
    password
}

/// The fields `new_password` and `new_password_confirmation`, which replace the present password.
pub(super) fn replacing(
    fields: &mut Fields,
    present: Option<&Password>,
    text: &str,
    confirmation: &str,
) -> Option<Password> {
    let names = ["new_password", "new_password_confirmation"];
    let password = confirmed(fields, names, [text, confirmation])?;
    if present.is_some_and(|present| present.is(&password)) {
        fields.reject("new_password", "must differ from the present password");
        return None;
    }
    Some(password)
}
