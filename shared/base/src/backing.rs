//! The dependencies of a service, such as a database.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{StartError, backoff::Backoff, clock::Clock, running::Running};

/// Shortest and longest pause before a start is retried because a dependency became unavailable.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A dependency without which a service cannot serve. `()` means no dependency.
pub trait Backing: Clone + Send + Sync + 'static {
    /// Waits until the dependency can be used. Returns false if `stop` was cancelled first.
    fn wait(&self, stop: &CancellationToken) -> impl Future<Output = bool> + Send;

    /// Returns, within a second, whether the dependency can be used now.
    fn check(&self) -> impl Future<Output = bool> + Send;

    /// Reports the dependency's metrics, and watches its clock if it has one, until the stop token
    /// of `running` is cancelled.
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

/// Waits until the dependency is available, then calls `prepare`. Retries if the dependency becomes
/// unavailable again. Returns `None` if `stop` was cancelled first.
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
                tracing::warn!(error, "a dependency became unavailable during the start; trying again");
                backoff.pause().await;
            }
            outcome => return outcome.map(Some),
        }
    }
    Ok(None)
}
