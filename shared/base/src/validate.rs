//! Field-by-field checks of requests. An error names all bad fields rather than just the first.

use std::{borrow::Cow, fmt};

use proto::authz::v1::ErrorReason;
use tonic::{Code, Status};

use crate::{
    clock::Timestamp,
    error::{BadField, ErrorReply},
    ids::{Id, Kind},
};

/// Maximum number of bad fields that an error names.
const MAX_NAMED: usize = 50;
/// The last second of a `google.protobuf.Timestamp`.
const LAST_SECOND: i64 = 253_402_300_799;

/// Collects the bad fields of one request.
///
/// ```
/// use base::validate::Fields;
///
/// let mut fields = Fields::new();
/// let limit = fields.check("limit", "ten".parse::<u8>());
/// let cell = fields.check("cell", "4".parse::<u8>());
/// let refused = fields.finish(|| Some((limit?, cell?)));
/// assert!(refused.is_err());
/// ```
#[derive(Debug, Default)]
pub struct Fields(Vec<BadField>);

/// The bad fields of a request; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidFields(Vec<BadField>);

impl Fields {
    /// Creates a collector with no bad fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a bad field. The description completes "the field ...", for example "must be 0 to
    /// 8".
    pub fn reject(&mut self, field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) {
        self.0.push(BadField {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Returns the checked value of a field. If the check failed, records the field as bad and
    /// returns `None`.
    pub fn check<T, E: fmt::Display>(&mut self, field: &'static str, checked: Result<T, E>) -> Option<T> {
        checked.map_err(|error| self.reject(field, error.to_string())).ok()
    }

    /// Returns the id in a required field. If it is missing or malformed, records the field as bad.
    pub fn id<K: Kind>(&mut self, field: &'static str, text: &str) -> Option<Id<K>> {
        if text.is_empty() {
            self.reject(field, "is required");
            return None;
        }
        self.check(field, text.parse())
    }

    /// Returns the time in an optional field. If it is outside the years 1970 to 9999, records the
    /// field as bad.
    pub fn time(&mut self, field: &'static str, time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
        let time = time?;
        if !(0..=LAST_SECOND).contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
            self.reject(field, "must be a time of the years 1970 to 9999");
            return None;
        }
        Some(time.into())
    }

    /// Returns the value that `build` makes of the checked values, or an error if any field is bad.
    /// `build` may return `None` only if it lacks a value whose field was rejected.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, InvalidFields> {
        match (self.0.is_empty(), build()) {
            (true, Some(value)) => Ok(value),
            _ => Err(InvalidFields(self.0)),
        }
    }
}

impl InvalidFields {
    /// Creates an error about a single field.
    pub fn one(field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) -> Self {
        let mut fields = Fields::new();
        fields.reject(field, description);
        Self(fields.0)
    }

    /// Returns the bad fields.
    pub fn into_fields(self) -> Vec<BadField> {
        self.0
    }
}

impl From<InvalidFields> for ErrorReply {
    fn from(InvalidFields(mut fields): InvalidFields) -> Self {
        let more = fields.len().saturating_sub(MAX_NAMED);
        if more > 0 {
            // Errors travel in HTTP/2 headers, whose size is limited.
            fields.truncate(MAX_NAMED);
            let (field, description) = ("...".into(), format!("and {more} more").into());
            fields.push(BadField { field, description });
        }
        let mut message = String::from("invalid request");
        for (index, bad) in fields.iter().enumerate() {
            message.push_str(if index == 0 { ": " } else { "; " });
            for part in [bad.field.as_ref(), " ", bad.description.as_ref()] {
                message.push_str(part);
            }
        }
        Self::new(Code::InvalidArgument, ErrorReason::FieldsInvalid, message).with_fields(fields)
    }
}

impl From<InvalidFields> for Status {
    fn from(fields: InvalidFields) -> Self {
        ErrorReply::from(fields).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    #[test]
    fn every_bad_field_is_named() {
        let mut fields = Fields::new();
        let user = fields.id::<crate::ids::UserKind>("user_id", "");
        let cell = fields.check::<u8, _>("cell", Err("must be 0 to 8"));
        let reply = ErrorReply::from(fields.finish(|| Some((user?, cell?))).expect_err("both are bad"));
        let status = Status::from(reply);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "invalid request: user_id is required; cell must be 0 to 8"
        );
    }

    #[test]
    fn only_the_first_50_bad_fields_are_named() {
        let mut fields = Fields::new();
        for index in 0..500 {
            fields.reject(format!("names[{index}]"), "must not be empty");
        }
        let status = Status::from(ErrorReply::from(fields.finish(|| Some(())).expect_err("bad")));
        assert!(
            status
                .message()
                .ends_with("names[49] must not be empty; ... and 450 more"),
            "{status}"
        );
        // Clients accept 16 KiB of headers, and the details are encoded as base64.
        assert!(status.details().len() + status.message().len() < 8 * 1024);
    }

    #[test]
    fn valid_fields_build_the_value() {
        let id = UserId::generate();
        let mut fields = Fields::new();
        let user = fields.id::<crate::ids::UserKind>("user_id", &id.to_string());
        assert_eq!(fields.finish(|| user), Ok(id));
    }
}
