//! The client id of a service account.

use access::token::{AUTH_SERVICE, DEFAULT_AUDIENCE, FIRST_PARTY_CLIENT_ID};

/// Names that stand for other actors in the audit log, or for other audiences in tokens.
const RESERVED: [&str; 4] = [FIRST_PARTY_CLIENT_ID, "command-line", AUTH_SERVICE, DEFAULT_AUDIENCE];

/// The client id of a service: 3 to 32 of the characters `a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientId(String);

/// The error for a text that is not a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 3 to 32 of the characters a-z 0-9 _ -, and not first-party, command-line, auth-service or game-backend"
)]
pub(crate) struct InvalidClientId;

impl std::str::FromStr for ClientId {
    type Err = InvalidClientId;

    fn from_str(text: &str) -> Result<Self, InvalidClientId> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if (3..=32).contains(&text.len()) && text.bytes().all(allowed) && !RESERVED.contains(&text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidClientId)
        }
    }
}

impl ClientId {
    /// Returns the client id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
