//! A place for a bounded number of calls.

use tokio::sync::OwnedSemaphorePermit;
use tonic::Code;

use crate::{error::ErrorReply, places::Places, proto::authz::v1::ErrorReason};

/// So many places for calls. To refuse half as many a second costs little beside them.
pub(super) fn places(count: u32) -> Places {
    Places::new(count, count.div_ceil(2))
}

/// A place, kept until it is dropped; or the refusal.
///
/// Health checks need none: a busy server is not a dead one, and restarting it would make things worse.
pub(super) fn admit(places: &Places, path: &str) -> Result<Option<OwnedSemaphorePermit>, ErrorReply> {
    if path.starts_with("/grpc.health.v1.Health/") {
        return Ok(None);
    }
    places.take().map(Some).map_err(|wait| {
        ErrorReply::new(
            Code::ResourceExhausted,
            ErrorReason::Overloaded,
            "the server is busy; try again in a moment",
        )
        .with_retry_after(wait)
    })
}
