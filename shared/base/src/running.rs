//! Graceful shutdown: a process refuses new calls, completes those in flight, and exits.

use std::{
    panic::AssertUnwindSafe,
    process,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::StartError;

/// Cancelled by the first SIGTERM or SIGINT (Ctrl-C). A second one ends the process at once, with
/// exit code 130.
pub fn shutdown_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("shutting down gracefully; signal again to stop at once");
                cancel.cancel();
            } else {
                process::exit(130);
            }
        }
    });
    Ok(token)
}

/// The tasks of a running service, which end together.
#[derive(Clone, Debug)]
pub struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
    drain: Duration,
    failure: Arc<OnceLock<String>>,
}

impl Running {
    /// Nothing runs yet. Everything ends when `stop` is cancelled, or when one of the tasks fails.
    pub fn new(stop: CancellationToken, drain: Duration) -> Self {
        Self {
            stop,
            tasks: TaskTracker::new(),
            drain,
            failure: Arc::default(),
        }
    }

    /// Everything ends at the first SIGTERM or Ctrl-C; see [`shutdown_signal`].
    pub fn until_signal(drain: Duration) -> Result<Self, StartError> {
        let stop = shutdown_signal().map_err(StartError::failed)?;
        Ok(Self::new(stop, drain))
    }

    /// Cancelled when it is time to end.
    pub const fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// How long calls in hand may take to end.
    pub const fn drain(&self) -> Duration {
        self.drain
    }

    /// Runs a task that ends when the stop token is cancelled. One that fails ends all.
    pub fn spawn<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let failure = Arc::clone(&self.failure);
        self.tasks.spawn(async move {
            let error = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_panic) => "panicked".to_owned(),
            };
            tracing::error!(error, task = name, "a task failed; shutting down");
            // Only the first one is the cause.
            let _ = failure.set(format!("{name}: {error}"));
            stop.cancel();
        });
    }

    /// Waits until everything has ended.
    ///
    /// # Errors
    ///
    /// What failed first, where it did not end because it was told to.
    pub async fn wait(&self) -> Result<(), StartError> {
        self.stop.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
        tracing::info!("stopped");
        match self.failure.get() {
            None => Ok(()),
            Some(failure) => Err(StartError::failed(failure)),
        }
    }

    /// Ends everything, and waits for it.
    pub async fn stop(&self) -> Result<(), StartError> {
        self.stop.cancel();
        self.wait().await
    }
}
