//! Typed ids: UUIDs whose type says what they identify, so that a user's id cannot be used where a
//! game's id belongs.

#[cfg(feature = "diesel")]
mod sql;

use std::{fmt, hash::Hash, marker::PhantomData, str::FromStr};

use uuid::Uuid;

/// Kind of thing that an [`Id`] identifies.
pub trait Kind: Copy + Ord + Hash + Send + Sync + 'static {
    /// Name of the kind in lower snake case, for messages.
    const NAME: &'static str;
}

/// A UUID of one kind. New ids are UUIDv7 (RFC 9562), so that they sort by creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "diesel",
    derive(diesel::expression::AsExpression, diesel::deserialize::FromSqlRow),
    diesel(sql_type = crate::sql_types::Uuid)
)]
pub struct Id<K: Kind> {
    uuid: Uuid,
    kind: PhantomData<K>,
}

/// Kind of the ids of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserKind {}

impl Kind for UserKind {
    const NAME: &'static str = "user";
}

/// Id of a user.
pub type UserId = Id<UserKind>;

/// Kind of the ids of sessions. A session is one device on which a user is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionKind {}

impl Kind for SessionKind {
    const NAME: &'static str = "session";
}

/// Id of a session.
pub type SessionId = Id<SessionKind>;

impl<K: Kind> Id<K> {
    /// Generates a new id. It sorts after all ids that this process generated before.
    pub fn generate() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }

    /// Returns the id with this UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self {
            uuid,
            kind: PhantomData,
        }
    }

    /// Returns the UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.uuid
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", K::NAME, self.uuid)
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.hyphenated().fmt(f)
    }
}

/// Error for a text that is not a UUID in its hyphenated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID such as 0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42")]
pub struct ParseIdError;

impl<K: Kind> FromStr for Id<K> {
    type Err = ParseIdError;

    /// Accepts only the hyphenated form, so that an id has a single spelling apart from upper and
    /// lower case.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(ParseIdError);
        }
        Uuid::try_parse(text).map(Self::from_uuid).map_err(|_| ParseIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_accepted_as_an_id() {
        let id = UserId::generate();
        assert_eq!(id.to_string().parse::<UserId>(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<UserId>(), Ok(id));
        let simple = id.as_uuid().simple().to_string();
        let braced = format!("{{{id}}}");
        let urn = format!("urn:uuid:{id}");
        for text in ["", "1", &simple, &braced, &urn, "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e4g"] {
            assert_eq!(text.parse::<UserId>(), Err(ParseIdError), "{text}");
        }
    }
}
