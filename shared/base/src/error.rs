//! Errors as callers see them, and the one place where they become a [`Status`].
//!
//! Every error carries a `google.rpc.ErrorInfo` (AIP-193). Its texts are written for callers.
//! Internal details go to the log, together with the request id that the caller can quote.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use proto::{auth, authz, game};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// A reason from one of the `ErrorReason` enums in `proto/`.
pub trait Reason: Copy {
    /// `ErrorInfo.domain`: the proto package of the enum.
    const DOMAIN: &'static str;

    /// Returns the name in the enum.
    fn enum_name(self) -> &'static str;

    /// Returns `ErrorInfo.reason`.
    fn name(self) -> &'static str {
        let name = self.enum_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }
}

macro_rules! reasons {
    ($($package:ident: $domain:literal),+) => {$(
        impl Reason for $package::v1::ErrorReason {
            const DOMAIN: &'static str = $domain;

            fn enum_name(self) -> &'static str {
                self.as_str_name()
            }
        }
    )+};
}

reasons!(auth: "auth.v1", authz: "authz.v1", game: "game.v1");

/// An error as the caller receives it.
#[derive(Clone, Debug)]
pub struct ErrorReply {
    code: Code,
    message: Cow<'static, str>,
    domain: &'static str,
    reason: &'static str,
    metadata: Vec<(&'static str, String)>,
    fields: Vec<BadField>,
    retry_after: Option<Duration>,
    resource: Option<(&'static str, String)>,
}

/// A field of a request that cannot be used, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// Name in the .proto file. The names of nested fields are joined with dots.
    pub field: Cow<'static, str>,
    /// Requirement that the field fails, in words that complete "the field ...".
    pub description: Cow<'static, str>,
}

impl ErrorReply {
    /// Creates an error with this code, this reason and a message for people.
    pub fn new(code: Code, reason: impl Reason, message: impl Into<Cow<'static, str>>) -> Self {
        fn domain<R: Reason>(_: R) -> &'static str {
            R::DOMAIN
        }
        Self {
            code,
            message: message.into(),
            domain: domain(reason),
            reason: reason.name(),
            metadata: Vec::new(),
            fields: Vec::new(),
            retry_after: None,
            resource: None,
        }
    }

    /// Creates an internal error. The caller learns nothing else about it.
    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            authz::v1::ErrorReason::Internal,
            "an internal error occurred; quote the request id when you report it",
        )
    }

    /// Adds a pair to `ErrorInfo.metadata`.
    pub fn with_metadata(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Adds a `google.rpc.BadRequest` with these fields.
    pub fn with_fields(mut self, fields: Vec<BadField>) -> Self {
        self.fields = fields;
        self
    }

    /// Adds a `google.rpc.RetryInfo`.
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a `google.rpc.RetryInfo` with a random delay, 0.5 to 1.5 times this one. Meant for
    /// errors that hit many callers at once, so that they do not all return together.
    pub fn with_retry_about(self, delay: Duration) -> Self {
        self.with_retry_after(spread(delay))
    }

    /// Adds a `google.rpc.ResourceInfo`: a type, such as `game`, and a name, such as the game's id.
    pub fn with_resource(mut self, resource_type: &'static str, name: impl Into<String>) -> Self {
        self.resource = Some((resource_type, name.into()));
        self
    }

    /// Returns the gRPC code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Returns `ErrorInfo.reason`.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

/// Returns 0.5 to 1.5 times this time, at random.
pub(crate) fn spread(time: Duration) -> Duration {
    time.mul_f64(0.5 + rand::random::<f64>())
}

impl From<ErrorReply> for Status {
    fn from(reply: ErrorReply) -> Self {
        let metadata: HashMap<String, String> = reply
            .metadata
            .into_iter()
            // Empty values carry no information. Besides, Envoy 1.40 crashes when it converts a map
            // entry without an encoded value to JSON (protobuf issue 26885).
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let mut details = ErrorDetails::with_error_info(reply.reason, reply.domain, metadata);
        if !reply.fields.is_empty() {
            details.set_bad_request(
                reply
                    .fields
                    .into_iter()
                    .map(|bad| FieldViolation::new(bad.field, bad.description))
                    .collect::<Vec<_>>(),
            );
        }
        if let Some(delay) = reply.retry_after {
            details.set_retry_info(Some(delay));
        }
        if let Some((resource_type, name)) = reply.resource {
            details.set_resource_info(resource_type, name, "", "");
        }
        Self::with_error_details(reply.code, reply.message, details)
    }
}

/// Returns the text of an error, followed by the texts of its causes. The first text often leaves
/// the causes out.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_every_detail() {
        let reply = ErrorReply::new(
            Code::NotFound,
            game::v1::ErrorReason::GameNotFound,
            "there is no such game",
        )
        .with_metadata("version", "3")
        .with_metadata("empty", "")
        .with_fields(vec![BadField {
            field: "cell".into(),
            description: "must be 0 to 8".into(),
        }])
        .with_retry_after(Duration::from_secs(2))
        .with_resource("game", "7");
        let status = Status::from(reply);
        assert_eq!(
            (status.code(), status.message()),
            (Code::NotFound, "there is no such game")
        );
        let details = status.get_error_details();
        let info = details.error_info().expect("ErrorInfo");
        assert_eq!(
            (info.domain.as_str(), info.reason.as_str()),
            ("game.v1", "GAME_NOT_FOUND")
        );
        assert_eq!(info.metadata["version"], "3");
        assert_eq!(info.metadata.len(), 1, "no empty value");
        assert_eq!(
            details.bad_request().expect("BadRequest").field_violations[0].field,
            "cell"
        );
        assert_eq!(
            details.retry_info().expect("RetryInfo").retry_delay,
            Some(Duration::from_secs(2))
        );
        assert_eq!(details.resource_info().expect("ResourceInfo").resource_name, "7");
    }
}
