//! Background jobs of a service.
//!
//! Every replica runs them, so a job must be correct even if another replica has just done the
//! same.

use std::{convert::Infallible, fmt::Display, time::Duration};

use futures_util::future::BoxFuture;

use crate::{clock::Clock, running::Running};

impl Running {
    /// Runs a task that would never end by itself, until the stop token is cancelled.
    pub fn follow(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop_token().clone();
        self.spawn(name, async move {
            stop.run_until_cancelled(task).await;
            Ok::<_, Infallible>(())
        });
    }

    /// Calls `job` at once and then every `interval`. Each interval varies at random by up to 10 %,
    /// so that replicas that started together do not keep working at the same moment. A failure is
    /// logged, and the next run tries again.
    pub fn every<E: Display + Send + 'static>(
        &self,
        interval: Duration,
        name: &'static str,
        job: impl Fn() -> BoxFuture<'static, Result<(), E>> + Send + 'static,
    ) {
        self.every_by(&Clock::system(), interval, name, job);
    }

    /// Does the same as [`Self::every`], with an interval measured by this clock.
    pub fn every_by<E: Display + Send + 'static>(
        &self,
        clock: &Clock,
        interval: Duration,
        name: &'static str,
        job: impl Fn() -> BoxFuture<'static, Result<(), E>> + Send + 'static,
    ) {
        let clock = clock.clone();
        self.follow(name, async move {
            loop {
                if let Err(error) = job().await {
                    tracing::warn!(job = name, %error, "a background job failed; trying again later");
                }
                clock.sleep(interval.mul_f64(rand::random_range(0.9..1.1))).await;
            }
        });
    }
}
