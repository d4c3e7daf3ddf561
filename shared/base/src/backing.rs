//! The dependencies of a service, such as a database.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{StartError, backoff::Backoff, clock::Clock, running::Running};

/// Pauses before retrying a start whose backing became unavailable.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Whatever a service cannot serve without. `()` means no dependency.
pub trait Backing: Clone + Send + Sync + 'static {
    /// Waits until it can be used. Returns false if `stop` was cancelled first.
    fn wait(&self, stop: &CancellationToken) -> impl Future<Output = bool> + Send;

    /// Whether it can be used now. Answers within a second.
    fn check(&self) -> impl Future<Output = bool> + Send;

    /// Reports its metrics, and watches the clock where it has one, until the stop token is
    /// cancelled.
    fn report(&self, clock: &Clock, running: &Running);
}

impl Backing for () {
    async fn wait(&self, stop: &CancellationToken) -> bool {
        !stop.is_cancelled()
    }

    async fn check(&self) -> bool {
        true
    }

    fn report(&self, _clock: &Clock, _running: &Running) {}
}

/// Waits until the backing is available and prepares it, retrying if it becomes unavailable.
/// Returns `None` if `stop` was cancelled first.
pub async fn when_available<B: Backing, T, F: Future<Output = Result<T, StartError>>>(
    backing: &B,
    stop: &CancellationToken,
    prepare: impl Fn() -> F,
) -> Result<Option<T>, StartError> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while backing.wait(stop).await {
        let Some(outcome) = stop.run_until_cancelled(prepare()).await else {
            break;
        };
        match outcome {
            Err(StartError::Outage(error)) => {
                tracing::warn!(error, "lost the database during the start");
                backoff.pause().await;
            }
            outcome => return outcome.map(Some),
        }
    }
    Ok(None)
}
