//! Graceful shutdown: a process refuses new calls, completes the in-flight ones, and exits.

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

/// Returns a token that the first SIGTERM or SIGINT (Ctrl-C) cancels. A second signal ends the
/// process at once with exit code 130.
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

/// The tasks of a running service, which all end together.
#[derive(Clone, Debug)]
pub struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
    drain: Duration,
    failure: Arc<OnceLock<String>>,
}

impl Running {
    /// Creates an empty set of tasks. All tasks end when `stop` is cancelled, or when one of them
    /// fails.
    pub fn new(stop: CancellationToken, drain: Duration) -> Self {
        Self {
            stop,
            tasks: TaskTracker::new(),
            drain,
            failure: Arc::default(),
        }
    }

    /// Creates an empty set of tasks that end at the first SIGTERM or Ctrl-C; see
    /// [`shutdown_signal`].
    pub fn until_signal(drain: Duration) -> Result<Self, StartError> {
        let stop = shutdown_signal().map_err(StartError::failed)?;
        Ok(Self::new(stop, drain))
    }

    /// Returns the token that is cancelled when the tasks must end.
    pub const fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns how long in-flight calls may take to complete during shutdown.
    pub const fn drain(&self) -> Duration {
        self.drain
    }

    /// Runs a task that ends when the stop token is cancelled. If it fails or panics, all other
    /// tasks are stopped as well.
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
            // Only the first failure is kept, since it caused the shutdown.
            let _ = failure.set(format!("{name}: {error}"));
            stop.cancel();
        });
    }

    /// Waits until the stop token is cancelled and all tasks have ended.
    ///
    /// # Errors
    ///
    /// Returns the first failure, if a failed task caused the shutdown.
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

    /// Cancels the stop token, and waits until all tasks have ended.
    pub async fn stop(&self) -> Result<(), StartError> {
        self.stop.cancel();
        self.wait().await
    }
}
