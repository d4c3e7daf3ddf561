//! JSON objects without duplicate member names.
//!
//! RFC 7515 (section 4) and RFC 7519 (section 4) let a parser take the last of several members with
//! the same name. An attacker can exploit two parsers that choose differently.

use base::json::Members;
use serde_json::{Map, Value};

/// JSON object without duplicate names at its top level.
pub(super) struct Object(pub(super) Map<String, Value>);

impl Object {
    /// Parses UTF-8 text that consists of one object and nothing else.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        // serde_json validates UTF-8 only in the strings that it keeps, so validate the whole text
        // here.
        let members: Members = serde_json::from_str(str::from_utf8(json).ok()?).ok()?;
        members.into_unique().map(Self)
    }
}
