//! Adds to every answer its request id and the details of its error.

use base::error::ErrorReply;
use http::Response;
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status, body::Body, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use super::{
    request_id::{REQUEST_ID, RequestId},
    rest::Dialect,
};

/// Gives an error the details and headers that every error has, and every answer its request id.
pub(super) fn complete(response: Response<Body>, id: &RequestId, dialect: Dialect) -> Response<Body> {
    let failed = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
    let mut response = match failed {
        None => response,
        Some(status) => {
            let status = if status.get_details_error_info().is_some() {
                status
            } else {
                reworded(&status)
            };
            let mut details = status.get_error_details();
            details.set_request_info(id.as_str(), "");
            let message = dialect.reword(status.message(), &mut details);
            let mut headers = status.metadata().clone().into_headers();
            dialect.add_headers(status.code(), &message, &details, &mut headers);
            let metadata = MetadataMap::from_headers(headers);
            Status::with_error_details_and_metadata(status.code(), message, details, metadata).into_http()
        }
    };
    response.headers_mut().insert(REQUEST_ID, id.header_value());
    response
}

/// Rewords an error that tonic made for the caller. Those that it calls INTERNAL are all about how it read the request.
fn reworded(status: &Status) -> Status {
    let (code, reason, message) = match status.code() {
        Code::Internal => (
            Code::InvalidArgument,
            ErrorReason::MessageMalformed,
            "the request is not a valid message of this RPC's type".to_owned(),
        ),
        Code::OutOfRange => (
            Code::OutOfRange,
            ErrorReason::MessageTooLarge,
            status.message().to_owned(),
        ),
        Code::Unimplemented if status.message().to_ascii_lowercase().contains("compress") => (
            Code::Unimplemented,
            ErrorReason::CompressionUnsupported,
            status.message().to_owned(),
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            ErrorReason::MethodUnknown,
            "this server has no such RPC".to_owned(),
        ),
        code => {
            tracing::warn!(%status, "an error without a reason");
            let reply = ErrorReply::new(code, ErrorReason::Unspecified, status.message().to_owned());
            return reply.into();
        }
    };
    ErrorReply::new(code, reason, message).into()
}
