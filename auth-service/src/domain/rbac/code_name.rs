//! Names of resources, actions, roles and permissions in policies and tokens.

use std::str::FromStr;

const MIN_LEN: usize = 2;
const MAX_LEN: usize = 64;

/// A code name: 2 to 64 of the characters `a-z 0-9 _`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CodeName(String);

/// The name of a permission: `resource:action`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PermissionName {
    pub(crate) resource: String,
    pub(crate) action: String,
}

/// The error for a text that is not a code name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 2 to 64 of the characters a-z 0-9 _ and begin with a letter")]
pub(crate) struct InvalidCodeName;

/// The error for a text that is not the name of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be resource:action, such as games:create; each part is 2 to 64 of the characters a-z 0-9 _ and begins with a \
    letter"
)]
pub(crate) struct InvalidPermissionName;

impl FromStr for CodeName {
    type Err = InvalidCodeName;

    fn from_str(text: &str) -> Result<Self, InvalidCodeName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if (MIN_LEN..=MAX_LEN).contains(&text.len())
            && text.bytes().all(allowed)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidCodeName)
        }
    }
}

impl CodeName {
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl FromStr for PermissionName {
    type Err = InvalidPermissionName;

    fn from_str(text: &str) -> Result<Self, InvalidPermissionName> {
        let (resource, action) = text.split_once(':').ok_or(InvalidPermissionName)?;
        let part = |text: &str| {
            text.parse::<CodeName>()
                .map(CodeName::into_string)
                .map_err(|_| InvalidPermissionName)
        };
        Ok(Self {
            resource: part(resource)?,
            action: part(action)?,
        })
    }
}

impl std::fmt::Display for PermissionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.resource, self.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_names_are_validated() {
        for good in ["ab", "games", "a_1", &"x".repeat(64)] {
            assert!(good.parse::<CodeName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "1a", "_a", "A", "a-b", "a b", "ä", "a:b", &"x".repeat(65)] {
            assert!(bad.parse::<CodeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn permissions_have_two_parts() {
        let name: PermissionName = "games:create".parse().expect("good");
        assert_eq!(name.to_string(), "games:create");
        for bad in ["", "games", "games:", ":create", "games:create:all", "games create"] {
            assert!(bad.parse::<PermissionName>().is_err(), "{bad:?}");
        }
        // The message states the whole rule, as that of a code name does.
        let refused = "1games:create"
            .parse::<PermissionName>()
            .expect_err("begins with a digit");
        assert!(refused.to_string().ends_with("begins with a letter"), "{refused}");
    }
}
