//! Completion of responses: adds the request id to every response, and details to every error.

use std::borrow::Cow;

use base::error::ErrorReply;
use http::Response;
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status, body::Body, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use super::{
    request_id::{REQUEST_ID, RequestId},
    rest::Dialect,
};

/// `ErrorInfo.reason` of an error, in the extensions of its response.
#[derive(Clone, Debug)]
pub(super) struct ReplyReason(pub(super) String);

/// Adds details and headers to an error, and the request id to every response.
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
            let reason = details.error_info().map(|info| ReplyReason(info.reason.clone()));
            let mut response =
                Status::with_error_details_and_metadata(status.code(), message, details, metadata).into_http();
            if let Some(reason) = reason {
                response.extensions_mut().insert(reason);
            }
            response
        }
    };
    response.headers_mut().insert(REQUEST_ID, id.header_value());
    response
}

/// Returns the `ErrorInfo.reason` of an error.
pub(super) fn reason_of(status: &Status) -> Option<Cow<'static, str>> {
    let info = status.get_details_error_info()?;
    Some(info.reason.into())
}

/// Rewords an error from tonic for the caller. tonic uses INTERNAL only for problems in reading the
/// request.
fn reworded(status: &Status) -> Status {
    let (code, reason, message) = match status.code() {
        Code::Internal => (
            Code::InvalidArgument,
            ErrorReason::MessageMalformed,
            "the message cannot be decoded as the request type of this RPC".to_owned(),
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
        // From the health service, about a name that this server does not know.
        Code::NotFound => (
            Code::NotFound,
            ErrorReason::ServiceUnknown,
            "this server has no gRPC service with this name".to_owned(),
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            ErrorReason::MethodUnknown,
            "this server has no such RPC".to_owned(),
        ),
        code => {
            tracing::warn!(%status, "returned an error without a reason");
            let reply = ErrorReply::new(code, ErrorReason::Unspecified, status.message().to_owned());
            return reply.into();
        }
    };
    ErrorReply::new(code, reason, message).into()
}
