//! Traces: `tracing` spans, exported over OTLP if a collector is configured.
//!
//! A call is a span of kind `server` that continues its caller's trace (W3C Trace Context). Each
//! SQL statement in it is a span of kind `client`, named after the function that runs the
//! statement. The text of statements and their values are never exported.

use std::{sync::OnceLock, time::Duration};

use http::{HeaderMap, Uri};
use opentelemetry::{
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use url::Url;

use crate::{StartError, tls::tls_for};

/// Target of the spans of SQL statements, which appear in traces only.
pub const SQL: &str = "sql";
/// Target of the spans of health checks and reflection, which appear in logs only.
pub const INFRASTRUCTURE: &str = "infrastructure";

/// Time limit for sending the last spans at exit.
const FLUSH: Duration = Duration::from_secs(3);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Destination and sampling of traces.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceSettings {
    /// Collector to which traces are sent by OTLP over gRPC, such as `http://127.0.0.1:4317`. By
    /// default there are no traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Url>,
    /// Fraction of calls that are traced [0 to 1]. Calls whose caller is traced are always traced.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_name = "RATIO")]
    #[arg(value_parser = parse_ratio)]
    pub trace_ratio: f64,
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Returns a layer that sends spans to the collector, or `None` if no collector is configured.
pub(super) fn layer<S>(settings: &TraceSettings, service: &'static str) -> Result<Option<impl Layer<S>>, StartError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(None);
    };
    let bad = |error: &dyn std::fmt::Display| StartError::Setting(format!("--otlp-endpoint: {error}"));
    let address: Uri = endpoint.as_str().parse().map_err(|error| bad(&error))?;
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str());
    if let Some(tls) = tls_for(&address) {
        exporter = exporter.with_tls_config(tls);
    }
    let exporter = exporter.build().map_err(|error| bad(&error))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            settings.trace_ratio,
        ))))
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    let tracer = provider.tracer(service);
    if PROVIDER.set(provider).is_err() {
        return Ok(None);
    }
    let spans = Targets::new()
        .with_default(tracing::Level::INFO)
        .with_target(SQL, tracing::Level::DEBUG)
        .with_target(INFRASTRUCTURE, tracing::level_filters::LevelFilter::OFF)
        // Leaves out the exporter's own activity.
        .with_target("opentelemetry", tracing::level_filters::LevelFilter::OFF)
        .with_target("h2", tracing::level_filters::LevelFilter::OFF);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    Ok(Some(layer.with_filter(spans)))
}

/// Makes the span part of its caller's trace, and records the trace id in the field `trace_id`.
/// Must be called before the span is entered.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if PROVIDER.get().is_none() {
        return;
    }
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // A caller that is not traced has no say: a gateway may leave the sampling decision to the
    // services.
    if caller.span().span_context().is_sampled() && span.set_parent(caller).is_err() {
        return;
    }
    let trace_id = span.context().span().span_context().trace_id();
    span.record("trace_id", tracing::field::display(trace_id));
}

/// Sends the spans that have not been sent yet.
pub(crate) async fn flush() {
    let Some(provider) = PROVIDER.get() else { return };
    let shutdown = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(FLUSH));
    if !matches!(tokio::time::timeout(FLUSH, shutdown).await, Ok(Ok(Ok(())))) {
        tracing::debug!("could not send the last spans");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampling_ratio_must_be_between_0_and_1() {
        for (text, ratio) in [
            ("0", Some(0.0)),
            ("1", Some(1.0)),
            ("0.25", Some(0.25)),
            ("1.1", None),
            ("-1", None),
            ("NaN", None),
            ("x", None),
        ] {
            assert_eq!(parse_ratio(text).ok(), ratio, "{text}");
        }
    }
}
