//! Reads a line of the file, and checks what it says.

use base::{
    clock::{ALLOWANCE, Clock, Timestamp},
    error::BadField,
    json,
    validate::Fields,
};
use serde_json::Value;

use super::file::Line;
use crate::{
    domain::{CheckedHash, CodeName, HashLimits, ImportedUser, ensure_not_reserved},
    model::ReservedRole,
};

/// Fields that a line may have.
const FIELDS: [&str; 11] = [
    "login",
    "email",
    "email_verified",
    "password_hash",
    "first_name",
    "last_name",
    "middle_name",
    "locale",
    "create_time",
    "is_active",
    "roles",
];
/// Maximum number of roles of a user.
const MAX_ROLES: usize = 50;
/// Maximum length of a name from the file in an error, in characters.
const MAX_QUOTED: usize = 40;
/// Beginning of what Django stores for a user without a password.
const UNUSABLE: char = '!';

/// Rules for the lines of this import.
#[derive(Debug)]
pub(super) struct LineRules {
    /// Code names of the roles that lines may give to users.
    pub(super) allowed_roles: Vec<String>,
    /// Limits on the cost of password hashes.
    pub(super) limits: HashLimits,
    pub(super) clock: Clock,
}

/// The members of a line that were not read yet, and the bad fields.
struct Members {
    members: Vec<(String, Value)>,
    fields: Fields,
}

impl LineRules {
    /// Reads a line. Returns all its bad fields if there are any.
    pub(super) fn parse(&self, line: &Line) -> Result<ImportedUser, Vec<BadField>> {
        let whole = |description: String| {
            vec![BadField {
                field: "the line".into(),
                description: description.into(),
            }]
        };
        let Some(text) = &line.text else {
            return Err(whole("must be at most 65536 bytes".to_owned()));
        };
        let text = str::from_utf8(text).map_err(|error| {
            let place = error.valid_up_to() + 1;
            whole(format!("must be UTF-8, which it is not at byte {place}"))
        })?;
        // Some programs begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // The error of serde_json may quote the line, which has a password hash.
        let object: json::Members = serde_json::from_str(text).map_err(|error| {
            let column = error.column();
            whole(format!(
                "must be one JSON object, not nested deeply; see column {column}"
            ))
        })?;
        let mut members = Members {
            members: object.0,
            fields: Fields::new(),
        };
        members.check_names();
        self.user(line.number, members)
    }

    fn user(&self, line: u64, mut members: Members) -> Result<ImportedUser, Vec<BadField>> {
        let login = members.text("login").map(Option::unwrap_or_default);
        let login = login.and_then(|text| members.fields.check("login", text.parse()));
        let email = members.text("email").map(Option::unwrap_or_default);
        let email = email.and_then(|text| members.fields.check("email", text.parse()));
        ensure_not_reserved(&mut members.fields, login.as_ref(), email.as_ref());
        let is_email_verified = members.flag("email_verified", false);
        let password = members.text("password_hash");
        let password = password.and_then(|text| self.password(&mut members.fields, text));
        let first_name = members.name("first_name");
        let last_name = members.name("last_name");
        let middle_name = members.name("middle_name");
        let locale = members.text("locale").map(Option::unwrap_or_default);
        let locale = locale.and_then(|text| members.fields.check("locale", text.parse()));
        let create_time = members.text("create_time");
        let create_time = create_time.and_then(|text| self.create_time(&mut members.fields, text));
        let is_active = members.flag("is_active", true);
        let roles = self.roles(&mut members);
        let build = || {
            Some(ImportedUser {
                line,
                login: login?,
                email: email?,
                is_email_verified: is_email_verified?,
                password: password?,
                first_name: first_name?,
                last_name: last_name?,
                middle_name: middle_name?,
                locale: locale?,
                create_time: create_time?,
                is_active: is_active?,
                roles: roles?,
            })
        };
        members
            .fields
            .finish(build)
            .map_err(base::validate::InvalidFields::into_fields)
    }

    #[expect(clippy::option_option, reason = "a bad field, no password, or a hash")]
    fn password(&self, fields: &mut Fields, text: Option<String>) -> Option<Option<CheckedHash>> {
        let hash = text.filter(|hash| !hash.is_empty() && !hash.starts_with(UNUSABLE));
        let Some(hash) = hash else { return Some(None) };
        fields
            .check("password_hash", CheckedHash::new(&hash, self.limits))
            .map(Some)
    }

    #[expect(clippy::option_option, reason = "a bad field, no time, or a time")]
    fn create_time(&self, fields: &mut Fields, text: Option<String>) -> Option<Option<Timestamp>> {
        let Some(text) = text else { return Some(None) };
        let Ok(time) = text.parse::<prost_types::Timestamp>() else {
            fields.reject("create_time", "must be a time such as 2024-05-17T08:30:00Z");
            return None;
        };
        let time = fields.time("create_time", Some(time))?;
        if time > self.clock.now().plus(ALLOWANCE) {
            fields.reject("create_time", "must not be in the future");
            return None;
        }
        Some(Some(time))
    }

    fn roles(&self, members: &mut Members) -> Option<Vec<String>> {
        let mut roles = Vec::new();
        match members.take("roles") {
            None | Some(Value::Null) => {}
            Some(Value::Array(values)) if values.len() <= MAX_ROLES => {
                for (index, value) in values.into_iter().enumerate() {
                    match self.role(value) {
                        Ok(role) => roles.push(role),
                        Err(description) => members.fields.reject(format!("roles[{index}]"), description),
                    }
                }
            }
            Some(_) => {
                let description = format!("must be an array of at most {MAX_ROLES} texts");
                members.fields.reject("roles", description);
                return None;
            }
        }
        roles.sort();
        roles.dedup();
        if roles.is_empty() {
            roles.push(ReservedRole::Player.code_name().to_owned());
        }
        Some(roles)
    }

    fn role(&self, value: Value) -> Result<String, String> {
        let Value::String(role) = value else {
            return Err("must be a text".to_owned());
        };
        let role: CodeName = role.parse().map_err(|error| format!("{error}"))?;
        let role = role.into_string();
        if self.allowed_roles.contains(&role) {
            return Ok(role);
        }
        Err(match ReservedRole::parse(&role) {
            Some(ReservedRole::Superuser | ReservedRole::Service | ReservedRole::Guest) => {
                format!("must not be {role}, which no import can give")
            }
            _ => format!("must not be {role} unless --allow-role {role} is passed"),
        })
    }
}

impl Members {
    /// Rejects members that are not known, and those that occur twice.
    fn check_names(&mut self) {
        for (index, (name, _)) in self.members.iter().enumerate() {
            let Some(known) = FIELDS.iter().find(|known| *known == name) else {
                self.fields.reject(quoted(name), "is not a field of an import");
                continue;
            };
            if self.members[..index].iter().any(|(before, _)| before == name) {
                self.fields.reject(*known, "must not be given twice");
            }
        }
    }

    /// Takes the first member with this name.
    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.members.iter().position(|(member, _)| member == name)?;
        Some(std::mem::take(&mut self.members[index].1))
    }

    /// Returns the text of a member, or `Some(None)` if it is missing or null.
    #[expect(clippy::option_option, reason = "a bad field, no text, or a text")]
    fn text(&mut self, name: &'static str) -> Option<Option<String>> {
        match self.take(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => {
                self.fields.reject(name, "must be a text");
                None
            }
        }
    }

    fn name<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        let text = self.text(name)?.unwrap_or_default();
        self.fields.check(name, text.parse())
    }

    fn flag(&mut self, name: &'static str, default: bool) -> Option<bool> {
        match self.take(name) {
            None | Some(Value::Null) => Some(default),
            Some(Value::Bool(flag)) => Some(flag),
            Some(_) => {
                self.fields.reject(name, "must be true or false");
                None
            }
        }
    }
}

/// Returns a text from the file for an error: short, and without characters that a terminal obeys.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(MAX_QUOTED).collect();
    format!("{start:?}")
}
