//! The language of a caller.

use tonic::Request;

use crate::mail::Locale;

/// Returns the language that the caller prefers, by the header `accept-language`.
pub(super) fn accepted<T>(request: &Request<T>) -> Locale {
    let header = request.metadata().get("accept-language");
    header
        .and_then(|header| header.to_str().ok())
        .map(Locale::accepted)
        .unwrap_or_default()
}
