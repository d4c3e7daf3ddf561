//! Metrics of connection pools, with OpenTelemetry's names.

use std::time::{Duration, Instant};

use base::telemetry;
use deadpool::managed::QueueMode;
use diesel_async::pooled_connection::deadpool::PoolError;
use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use super::{Error, Result};

/// Order in which idle connections are reused: the one returned last comes first. Its caches are
/// warm, also on PostgreSQL's side, and surplus connections stay idle.
pub(super) const QUEUE_MODE: QueueMode = QueueMode::Lifo;
const COUNT: &str = "db_client_connection_count";
const MAX: &str = "db_client_connection_max";
const PENDING: &str = "db_client_connection_pending_requests";
const WAIT: &str = "db_client_connection_wait_time_seconds";
const TIMEOUTS: &str = "db_client_connection_timeouts_total";

/// The metrics of one pool.
pub(super) struct PoolMetrics {
    used: Gauge,
    idle: Gauge,
    max: Gauge,
    pending: Gauge,
    wait: Histogram,
    timeouts: Counter,
}

impl PoolMetrics {
    /// Creates the metrics of the pool with this name.
    pub(super) fn new(pool: &str) -> Self {
        // The recorder must be installed before anything is measured.
        telemetry::metrics::recorder();
        metrics::describe_gauge!(
            COUNT,
            "Number of open database connections, by `pool` and `state` (used or idle)."
        );
        metrics::describe_gauge!(MAX, "Maximum number of database connections, by `pool`.");
        metrics::describe_gauge!(
            PENDING,
            "Number of tasks that are waiting for a database connection, by `pool`."
        );
        metrics::describe_histogram!(
            WAIT,
            Unit::Seconds,
            "Time in seconds that a task waited for a database connection, by `pool`."
        );
        metrics::describe_counter!(
            TIMEOUTS,
            "Number of tasks that got no database connection in time, by `pool`."
        );
        let pool = pool.to_owned();
        Self {
            used: gauge!(COUNT, "pool" => pool.clone(), "state" => "used"),
            idle: gauge!(COUNT, "pool" => pool.clone(), "state" => "idle"),
            max: gauge!(MAX, "pool" => pool.clone()),
            pending: gauge!(PENDING, "pool" => pool.clone()),
            wait: histogram!(WAIT, "pool" => pool.clone()),
            timeouts: counter!(TIMEOUTS, "pool" => pool),
        }
    }

    /// Waits for a connection from `get` for at most this time, and records the wait.
    pub(super) async fn get<T>(
        &self,
        timeout: Duration,
        get: impl Future<Output = std::result::Result<T, PoolError>>,
    ) -> Result<T> {
        let start = Instant::now();
        let got = tokio::time::timeout(timeout, get).await;
        self.wait.record(start.elapsed().as_secs_f64());
        let got = got.map_err(|_| {
            self.timeouts.increment(1);
            Error::Unavailable("no connection was free or could be made in time".to_owned())
        });
        Ok(got??)
    }

    /// Sets the gauges: maximum size, current size, idle connections and waiting tasks.
    pub(super) fn set(&self, [max, size, idle, pending]: [usize; 4]) {
        let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.max.set(count(max));
        self.used.set(count(size.saturating_sub(idle)));
        self.idle.set(count(idle));
        self.pending.set(count(pending));
    }
}
