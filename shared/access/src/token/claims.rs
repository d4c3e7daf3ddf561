//! Claims of an access token (RFC 9068, section 2.2), exactly as they are signed.

use std::{fmt::Display, str::FromStr};

use base::ids::{SessionId, UserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Claims of an access token. Times are whole seconds since 1970-01-01T00:00:00Z (`NumericDate`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audience: the services that accept the token.
    pub aud: Audience,
    /// Subject: the id of the user, or of the user that represents a service.
    #[serde(serialize_with = "text", deserialize_with = "from_text")]
    pub sub: UserId,
    /// Expiry. The token is no longer valid at this second.
    pub exp: u64,
    /// Time at which the token was issued.
    pub iat: u64,
    /// Start of validity. The token is valid from this second on.
    pub nbf: u64,
    /// Token id, unique among all tokens of the issuer.
    pub jti: String,
    /// Client id: [`FIRST_PARTY_CLIENT_ID`](super::FIRST_PARTY_CLIENT_ID) in the token of a person,
    /// or the service's own id.
    pub client_id: String,
    /// Session that the token belongs to. The token of a person always has one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_text",
        deserialize_with = "some_from_text"
    )]
    pub sid: Option<SessionId>,
    /// User's token version when the token was issued, counted from 0. The token is stale if the
    /// user's current version is higher.
    #[serde(deserialize_with = "not_negative")]
    pub ver: i64,
    /// Names of the user's roles.
    pub roles: Vec<String>,
    /// User's login.
    pub preferred_username: String,
    /// Permissions that are granted to the user directly, as `resource:action`. Permissions that
    /// come from roles are not repeated here.
    pub permissions: Vec<String>,
    /// Time at which the user last proved who they are (RFC 9068, section 2.2.1). Absent from the
    /// tokens of services, and from those that auth-service issued before it knew this claim.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_present")]
    pub auth_time: Option<u64>,
    /// Methods by which the user did so (RFC 8176). Absent where `auth_time` is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// Authentication context class that they amount to: see [`Acr`](super::Acr). Absent where
    /// `auth_time` is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_present")]
    pub acr: Option<String>,
}

/// Audience of a token: names of services, or the name of a whole deployment. One name is written
/// as a string, several as a list (RFC 7519, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single name, written as a string.
    One(String),
    /// Any number of names, written as a list.
    Many(Vec<String>),
}

impl Audience {
    /// Returns the names.
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

/// Parses a claim that may be absent but not `null`.
fn some_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SessionId>, D::Error> {
    from_text(deserializer).map(Some)
}

/// Parses a claim that may be absent but not `null`.
fn some_present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn not_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    i64::try_from(u64::deserialize(deserializer)?).map_err(de::Error::custom)
}
