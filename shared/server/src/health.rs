//! Health of a service (grpc.health.v1): NOT_SERVING whenever a dependency of the service is
//! missing.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base::running::Running;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::MAX_MESSAGE_LEN;

/// Interval between two checks. A check may take a second, so the reported health is at most 2 s
/// old.
const INTERVAL: Duration = Duration::from_millis(500);

/// Health of a service, for probes and for the HTTP port.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    names: Arc<[String]>,
    serving: Arc<AtomicBool>,
}

impl Health {
    /// Creates a health that is NOT_SERVING. `services` are the full names of the gRPC services.
    /// The empty name, which stands for the whole server, is added.
    pub async fn new(services: &[String]) -> Self {
        let names = services.iter().cloned().chain([String::new()]).collect();
        let health = Self {
            reporter: HealthReporter::new(),
            names,
            serving: Arc::default(),
        };
        // The reporter starts with the empty name as SERVING.
        health.report(false).await;
        health
    }

    /// Returns whether the service is serving.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    pub(super) fn service(&self) -> HealthServer<impl tonic_health::pb::health_server::Health> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
            .max_decoding_message_size(MAX_MESSAGE_LEN)
    }

    /// Calls `missing` at intervals, until the stop token is cancelled. It returns a text that says
    /// why the service cannot serve, or `None` if it can. When the token is cancelled, the health
    /// becomes NOT_SERVING.
    pub fn spawn<F>(self, missing: impl Fn() -> F + Send + Sync + 'static, running: &Running)
    where
        F: Future<Output = Option<&'static str>> + Send,
    {
        let stop = running.stop_token().clone();
        running.spawn("health", async move {
            self.follow(missing, stop).await;
            Ok::<_, Infallible>(())
        });
    }

    async fn follow<F>(self, missing: impl Fn() -> F, stop: CancellationToken)
    where
        F: Future<Output = Option<&'static str>>,
    {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_serving = false;
        let watch = async {
            loop {
                ticks.tick().await;
                let missing = missing().await;
                if missing.is_none() == is_serving {
                    continue;
                }
                is_serving = missing.is_none();
                self.report(is_serving).await;
                match missing {
                    None => tracing::info!("serving"),
                    Some(missing) => tracing::warn!("not serving: {missing}"),
                }
            }
        };
        stop.run_until_cancelled(watch).await;
        self.report(false).await;
    }

    async fn report(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in self.names.iter() {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
