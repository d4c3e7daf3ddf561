//! JSON objects whose member names may occur twice.
//!
//! serde_json keeps the last of several members with the same name. Code that must not accept such
//! an object reads it as [`Members`].

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// Members of a JSON object in their order, with those that occur twice. They may hold secrets, so
/// the type has no `Debug`.
pub struct Members(pub Vec<(String, Value)>);

impl Members {
    /// Returns the members by name, or `None` if a name occurs twice.
    pub fn into_unique(self) -> Option<Map<String, Value>> {
        let mut unique = Map::new();
        for (name, value) in self.0 {
            if unique.insert(name, value).is_some() {
                return None;
            }
        }
        Some(unique)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry::<String, Value>()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_a_name_that_occurs_twice_is_noticed() {
        let read = |json| serde_json::from_str::<Members>(json).ok();
        let names = |json| {
            let members = read(json).expect("an object").0;
            members.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(r#"{"b": 1, "a": 2, "b": 1}"#), ["b", "a", "b"]);
        let unique = |json| read(json).expect("an object").into_unique();
        assert_eq!(unique(r#"{"b": 1, "a": {"b": 2}}"#).expect("unique").len(), 2);
        assert_eq!(unique(r#"{"b": 1, "\u0062": 1}"#), None);
        for json in ["[]", "1", "{} {}", r#"{"a": 1"#, ""] {
            assert!(read(json).is_none(), "{json}");
        }
    }
}
