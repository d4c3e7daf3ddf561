//! Metrics, recorded with the crate `metrics` and served as Prometheus text at `/metrics`.
//!
//! A metric is named and described beside the code that records it. Names follow Prometheus: base
//! units (`_seconds`, `_bytes`), and `_total` for counters. Label values come from a bounded set;
//! ids, addresses and paths are never labels.

use std::sync::OnceLock;

use metrics::Gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Histogram buckets in seconds, from 100 µs (a call that does nothing) to 10 s (its caller has
/// given up).
const BUCKETS: [f64; 13] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0,
];

/// Returns the metrics of this process. The first call installs the recorder and must come before
/// anything is measured.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
            .expect("the buckets are not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Another recorder exists only if this code is embedded in another program. That program's
        // recorder then receives the measurements.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is already installed, so /metrics stays empty");
        }
        Collector::default().describe();
        handle
    })
}

/// Renders all metrics as text, including those that the operating system keeps for the process
/// (`process_cpu_seconds_total`, `process_resident_memory_bytes` and so on).
pub fn render() -> String {
    let recorder = recorder();
    Collector::default().collect();
    // The crate `metrics` has integer counters only, so the fractional CPU time is a gauge in code
    // and is declared a counter in the text.
    let cpu_time = "# TYPE process_cpu_seconds_total";
    recorder
        .render()
        .replacen(&format!("{cpu_time} gauge"), &format!("{cpu_time} counter"), 1)
}

/// An operation in progress, counted in a gauge until this value is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl InFlight {
    /// Adds one to the gauge.
    pub fn new(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu_seconds(text: &str) -> f64 {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
        value.expect("the CPU time").parse().expect("a number")
    }

    #[test]
    fn cpu_time_is_a_counter_of_fractions_of_a_second() {
        recorder();
        let first = render();
        assert!(first.contains("# TYPE process_cpu_seconds_total counter\n"), "{first}");
        // The kernel counts in hundredths of a second. Rendering repeatedly uses enough CPU time to
        // move the count, and the first change is far below a second.
        let grown = std::iter::repeat_with(render).find(|text| cpu_seconds(text) > cpu_seconds(&first));
        assert!(cpu_seconds(&grown.expect("it grows")) - cpu_seconds(&first) < 1.0);
    }
}
