//! JSON objects without duplicate member names.
//!
//! RFC 7515 (section 4) and RFC 7519 (section 4) let a parser take the last of several members with
//! the same name. An attacker can exploit two parsers that choose differently.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// JSON object without duplicate names at its top level.
pub struct Object(pub Map<String, Value>);

impl Object {
    /// Parses UTF-8 text that consists of one object and nothing else.
    pub fn parse(json: &[u8]) -> Option<Self> {
        // serde_json validates UTF-8 only in the strings that it keeps, so validate the whole text
        // here.
        serde_json::from_str(str::from_utf8(json).ok()?).ok()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Object, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member is named twice"));
            }
        }
        Ok(Object(members))
    }
}
