//! A bound on the calls in hand. What comes on top is refused at once, which costs next to nothing, instead of
//! queueing until every caller has given up.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use crate::{error::ErrorReply, proto::authz::v1::ErrorReason};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lets a bounded number of calls in.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new(places: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(
                usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// A place, kept until it is dropped; or the refusal.
    ///
    /// Health checks need none: a busy server is not a dead one, and restarting it would make things worse.
    pub(super) fn admit(&self, path: &str) -> Result<Option<OwnedSemaphorePermit>, ErrorReply> {
        if path.starts_with("/grpc.health.v1.Health/") {
            return Ok(None);
        }
        Arc::clone(&self.places).try_acquire_owned().map(Some).map_err(|_| {
            ErrorReply::new(
                Code::ResourceExhausted,
                ErrorReason::Overloaded,
                "the server is busy; try again in a moment",
            )
            .with_retry_after(RETRY_AFTER)
        })
    }
}
