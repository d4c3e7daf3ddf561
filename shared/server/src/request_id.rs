//! Request id, by which a caller and the log refer to the same request.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Metadata key of the id, in requests and responses.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LEN: usize = 64;

/// Id of a request: the caller's own if it sent a valid one, and otherwise a new UUID. It is in the
/// extensions of every request.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the id in `x-request-id` if it is valid, and otherwise a new one. A valid id has 1
    /// to 64 characters out of `A-Z a-z 0-9 . _ -`. No other characters are allowed, because the id
    /// goes to the log and back to the caller.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let usable = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=MAX_LEN).contains(&bytes.len())
                && bytes
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
        };
        headers
            .get(REQUEST_ID)
            .filter(usable)
            .cloned()
            .map_or_else(Self::generate, Self)
    }

    fn generate() -> Self {
        let mut buffer = Uuid::encode_buffer();
        let text: &str = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        Self(HeaderValue::from_str(text).expect("hexadecimal digits and hyphens are a header value"))
    }

    /// Returns the id as a response header. The value is marked as sensitive although it is no
    /// secret.
    ///
    /// HPACK keeps sensitive values out of the header tables on both ends of a connection. There,
    /// an id that never recurs would displace values that do, and would be compared with all ids
    /// before it.
    pub(super) fn header_value(&self) -> HeaderValue {
        let mut value = self.0.clone();
        value.set_sensitive(true);
        value
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_kept_out_of_the_header_compression_table() {
        let id = RequestId::of(&HeaderMap::new());
        assert!(id.header_value().is_sensitive());
        assert_eq!(id.header_value(), id.as_str());
    }

    #[test]
    fn only_harmless_request_ids_are_adopted() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(value).expect("a header value"));
            RequestId::of(&headers).to_string()
        };
        assert_eq!(of("abc-DEF_1.2"), "abc-DEF_1.2");
        for bad in ["", "a b", "a\"b", "{}", &"a".repeat(65)] {
            assert_ne!(of(bad), bad);
            assert_eq!(of(bad).len(), 36);
        }
    }
}
