//! Fields by which callers who are not signed in prove who they are.

use base::validate::Fields;

use crate::domain::{MAX_IDENTIFIER_BYTES, PresentedCode};

/// Checks that the required field `identifier` can be a login or an e-mail address.
pub(super) fn identifier(fields: &mut Fields, identifier: &str) {
    if identifier.is_empty() {
        fields.reject("identifier", "is required");
    } else if identifier.len() > MAX_IDENTIFIER_BYTES
        // White space around it is ignored, including tabs and line feeds.
        || identifier.trim().chars().any(char::is_control)
    {
        fields.reject("identifier", "must be a login or an e-mail address");
    }
}

/// Reads the required field `code`.
pub(super) fn code(fields: &mut Fields, code: &str) -> Option<PresentedCode> {
    if code.is_empty() {
        fields.reject("code", "is required");
        return None;
    }
    fields.check("code", code.parse())
}
