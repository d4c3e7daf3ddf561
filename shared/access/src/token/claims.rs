//! What an access token says (RFC 9068, 2.2), exactly as it is signed.

use std::{fmt::Display, str::FromStr};

use base::ids::{SessionId, UserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The claims of an access token. Times are whole seconds since 1970-01-01T00:00:00Z (NumericDate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// The services that accept the token.
    pub aud: Audience,
    /// The user, or the user that stands for the service.
    #[serde(serialize_with = "text", deserialize_with = "from_text")]
    pub sub: UserId,
    /// Good until then, this second excluded.
    pub exp: u64,
    /// Issued then.
    pub iat: u64,
    /// Good from then on.
    pub nbf: u64,
    /// Names this token among all of the issuer's.
    pub jti: String,
    /// [`FIRST_PARTY_CLIENT_ID`](super::FIRST_PARTY_CLIENT_ID) for people, its own for a service.
    pub client_id: String,
    /// The session that it belongs to. People's tokens always have one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_text",
        deserialize_with = "some_from_text"
    )]
    pub sid: Option<SessionId>,
    /// The user's token version at issue, from 0. A lower one than the user has now is stale.
    #[serde(deserialize_with = "not_negative")]
    pub ver: i64,
    /// Names of the user's roles.
    pub roles: Vec<String>,
    /// The login.
    pub preferred_username: String,
    /// What is granted to the user directly, as `resource:action`; what roles grant is not repeated
    /// here.
    pub permissions: Vec<String>,
}

/// The audience of a token: names of services, or the name of a whole deployment. One name is
/// written as a string, several as a list (RFC 7519, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single name, written as a string.
    One(String),
    /// Any number of names, written as a list.
    Many(Vec<String>),
}

impl Audience {
    /// The names.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

impl From<&str> for Audience {
    fn from(name: &str) -> Self {
        Self::One(name.to_owned())
    }
}

fn text<S: Serializer>(id: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn some_text<S: Serializer>(id: &Option<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// A claim that is present holds a value: `null` is not one.
fn some_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SessionId>, D::Error> {
    from_text(deserializer).map(Some)
}

fn not_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    i64::try_from(u64::deserialize(deserializer)?).map_err(de::Error::custom)
}
