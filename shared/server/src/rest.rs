//! Errors in the terms of REST, for calls that the gateway has transcoded from JSON.
//!
//! The services and their .proto files say `new_password`, but JSON says `newPassword`. Envoy's
//! transcoder puts the path that the client requested into `x-envoy-original-path`, and the gateway
//! removes that header from client requests. A client that reaches a service directly can still set
//! the header. The header therefore decides how an error is worded, and nothing else.

use base::error::Reason as _;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use proto::authz::v1::ErrorReason;
use tonic::Code;
use tonic_types::{ErrorDetails, FieldViolation};

const TRANSCODED: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// Protection space that all services share (RFC 9110, section 11.5).
const REALM: &str = "api";
/// Parameters of a challenge for a better login, which the error has as metadata.
const STEP_UP_PARAMETERS: [&str; 2] = ["max_age", "acr_values"];

/// API through which a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// gRPC or gRPC-Web.
    Grpc,
    /// JSON over HTTP, as the gateway transcodes it.
    Rest,
}

impl Dialect {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(TRANSCODED) {
            Self::Rest
        } else {
            Self::Grpc
        }
    }

    /// Rewrites the field names in an error as this API spells them.
    pub(super) fn reword(self, message: &str, details: &mut ErrorDetails) -> String {
        if self == Self::Grpc {
            return message.to_owned();
        }
        let Some(bad) = details.bad_request() else {
            return with_json_names_in_backticks(message);
        };
        let fields = bad.field_violations.iter();
        let fields: Vec<_> = fields
            .map(|bad| FieldViolation::new(with_json_names(&bad.field), with_json_names(&bad.description)))
            .collect();
        details.set_bad_request(fields);
        // The message consists of the fields and their descriptions, and quotes no value from the
        // caller.
        with_json_names(message)
    }

    /// Adds the HTTP headers for an error: `retry-after`, and for REST also `www-authenticate`.
    pub(super) fn add_headers(self, code: Code, message: &str, details: &ErrorDetails, headers: &mut HeaderMap) {
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self == Self::Rest && code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, challenge(message, details));
        }
    }
}

/// Returns the challenge of a 401 (RFC 6750, section 3). One for a better login says which login is
/// needed (RFC 9470, section 3).
///
/// A 401 for another reason, such as a wrong password or an expired refresh token, needs a
/// challenge too (RFC 9110, section 15.5.2). That challenge has no `error`, because no access token
/// was refused.
fn challenge(message: &str, details: &ErrorDetails) -> HeaderValue {
    let info = details.error_info().filter(|info| info.domain == ErrorReason::DOMAIN);
    let refused = info.filter(|info| info.reason != ErrorReason::TokenMissing.name());
    let text = if let Some(info) = refused {
        let mut parameters = String::new();
        let mut error = "invalid_token";
        if info.reason == ErrorReason::StepUpRequired.name() {
            error = "insufficient_user_authentication";
            for name in STEP_UP_PARAMETERS {
                if let Some(value) = info.metadata.get(name) {
                    parameters.extend([", ", name, "=\"", value, "\""]);
                }
            }
        }
        // Remove the characters that a quoted string cannot contain.
        let message = message.replace(
            |letter: char| !matches!(letter, ' '..='~') || letter == '"' || letter == '\\',
            "",
        );
        format!("Bearer realm=\"{REALM}\", error=\"{error}\", error_description=\"{message}\"{parameters}")
    } else {
        format!("Bearer realm=\"{REALM}\"")
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// Returns the text with field names as in JSON. Only the parts in backticks are changed, because
/// the rest may quote a value.
fn with_json_names_in_backticks(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts: Vec<_> = parts
        .map(|(index, part)| {
            if index % 2 == 1 {
                with_json_names(part)
            } else {
                part.to_owned()
            }
        })
        .collect();
    parts.join("`")
}

/// Returns the text with every word of snake case in lower camel case, as protobuf forms JSON
/// names.
fn with_json_names(text: &str) -> String {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if is_of_word(first) {
            rest.find(|letter| !is_of_word(letter))
        } else {
            rest.find(is_of_word)
        };
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        if is_snake_case(part) {
            push_json_name(&mut renamed, part);
        } else {
            renamed.push_str(part);
        }
    }
    renamed
}

fn is_snake_case(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_lowercase())
        && !word.contains(|letter: char| letter.is_ascii_uppercase())
}

fn push_json_name(text: &mut String, name: &str) {
    let mut is_start = false;
    for letter in name.chars() {
        match letter {
            '_' => is_start = true,
            letter => {
                text.push(if is_start { letter.to_ascii_uppercase() } else { letter });
                is_start = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{error::ErrorReply, validate::InvalidFields};
    use proto::auth::v1 as auth;
    use tonic::Status;
    use tonic_types::StatusExt as _;

    use super::*;

    fn headers(dialect: Dialect, reply: ErrorReply) -> HeaderMap {
        let status = Status::from(reply);
        let mut headers = HeaderMap::new();
        dialect.add_headers(
            status.code(),
            status.message(),
            &status.get_error_details(),
            &mut headers,
        );
        headers
    }

    #[test]
    fn transcoded_requests_are_recognized_by_their_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(Dialect::of(&headers), Dialect::Grpc);
        headers.insert(TRANSCODED, HeaderValue::from_static("/v1/me"));
        assert_eq!(Dialect::of(&headers), Dialect::Rest);
    }

    #[test]
    fn field_names_are_translated_to_json_names() {
        for (text, expected) in [
            ("", ""),
            ("new_password", "newPassword"),
            ("update_mask.paths[0]", "updateMask.paths[0]"),
            ("must be the same as new_password", "must be the same as newPassword"),
            (
                "role.code_name: a_b2_c, GAME_STATE_WON",
                "role.codeName: aB2C, GAME_STATE_WON",
            ),
            ("must be an é_a or _b", "must be an é_a or _b"),
        ] {
            assert_eq!(with_json_names(text), expected);
        }
    }

    #[test]
    fn errors_use_json_names_over_rest_and_proto_names_over_grpc() {
        let reply = || {
            ErrorReply::from(InvalidFields::one(
                "new_password",
                "must be the same as password_confirmation",
            ))
        };
        let worded = |dialect: Dialect| {
            let status = Status::from(reply());
            let mut details = status.get_error_details();
            let message = dialect.reword(status.message(), &mut details);
            let bad = details.bad_request().expect("fields").field_violations[0].clone();
            (message, bad.field, bad.description)
        };
        let (message, field, description) = worded(Dialect::Rest);
        assert_eq!(
            message,
            "invalid request: newPassword must be the same as passwordConfirmation"
        );
        assert_eq!(
            (field.as_str(), description.as_str()),
            ("newPassword", "must be the same as passwordConfirmation")
        );
        assert_eq!(worded(Dialect::Grpc).1, "new_password");
    }

    #[test]
    fn values_quoted_in_an_error_are_not_translated() {
        let mut details = ErrorDetails::new();
        let reworded = Dialect::Rest.reword("there is no role game_master", &mut details);
        assert_eq!(reworded, "there is no role game_master");
        let reworded = Dialect::Rest.reword("log in again with a `new_password`", &mut details);
        assert_eq!(reworded, "log in again with a `newPassword`");
    }

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        for (delay, expected) in [(0, "0"), (1, "1"), (999, "1"), (1000, "1"), (1001, "2"), (90_000, "90")] {
            let reply = ErrorReply::internal().with_retry_after(Duration::from_millis(delay));
            assert_eq!(headers(Dialect::Grpc, reply)[RETRY_AFTER], expected, "{delay} ms");
        }
        assert!(!headers(Dialect::Rest, ErrorReply::internal()).contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_challenge_says_whether_a_token_was_refused() {
        let challenge = |reason, message: &'static str| {
            let headers = headers(Dialect::Rest, ErrorReply::new(Code::Unauthenticated, reason, message));
            headers[WWW_AUTHENTICATE].to_str().expect("ASCII").to_owned()
        };
        assert_eq!(challenge(ErrorReason::TokenMissing, "sign in"), r#"Bearer realm="api""#);
        assert_eq!(
            challenge(ErrorReason::TokenExpired, "it has \"expired\\\""),
            r#"Bearer realm="api", error="invalid_token", error_description="it has expired""#
        );
        let step_up = ErrorReply::new(Code::Unauthenticated, ErrorReason::StepUpRequired, "log in")
            .with_metadata("max_age", "900")
            .with_metadata("acr_values", "2");
        assert_eq!(
            headers(Dialect::Rest, step_up)[WWW_AUTHENTICATE],
            "Bearer realm=\"api\", error=\"insufficient_user_authentication\", error_description=\"log in\", \
             max_age=\"900\", acr_values=\"2\""
        );
        let password = ErrorReply::new(Code::Unauthenticated, auth::ErrorReason::CredentialsInvalid, "wrong");
        assert_eq!(
            headers(Dialect::Rest, password.clone())[WWW_AUTHENTICATE],
            r#"Bearer realm="api""#
        );
        assert!(!headers(Dialect::Grpc, password).contains_key(WWW_AUTHENTICATE));
        assert!(!headers(Dialect::Rest, ErrorReply::internal()).contains_key(WWW_AUTHENTICATE));
    }
}
