//! Logins and addresses of the lines that can be imported.

use std::collections::HashMap;

use base::error::BadField;

use crate::domain::ImportedUser;

/// Names that lines have taken, with the numbers of these lines.
#[derive(Debug, Default)]
pub(super) struct Names {
    logins: HashMap<String, u64>,
    emails: HashMap<String, u64>,
}

impl Names {
    /// Returns the fields of a user that have the same value in an earlier line.
    pub(super) fn repeated_by(&self, user: &ImportedUser) -> Vec<BadField> {
        let fields = [
            ("login", self.logins.get(user.login.folded())),
            ("email", self.emails.get(user.email.key())),
        ];
        let repeated = fields.into_iter().filter_map(|(field, line)| {
            Some(BadField {
                field: field.into(),
                description: format!("is the same as in line {}", line?).into(),
            })
        });
        repeated.collect()
    }

    /// Takes the names of a user who can be imported.
    pub(super) fn take(&mut self, user: &ImportedUser) {
        self.logins.insert(user.login.folded().to_owned(), user.line);
        self.emails.insert(user.email.key().to_owned(), user.line);
    }
}
