//! Logs, [metrics] and [traces].
//!
//! Logs are written with `tracing` to standard error, as text or as JSON. Standard output is
//! reserved for the results of commands.
//!
//! Ids, names of RPCs, codes, durations and addresses may be logged. Tokens, passwords, keys,
//! e-mail addresses and whole requests must not.

mod human;
pub mod metrics;
pub mod traces;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

pub use self::human::CALL;
use self::{
    human::{HumanEvents, HumanSpans},
    traces::TraceSettings,
};
use crate::StartError;

/// Settings of logs and traces.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct TelemetrySettings {
    /// Lowest level that is logged: error, warn, info, debug, trace or off. Can be set per module:
    /// `info,access::token=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = parse_filter)]
    pub log_level: LogFilter,
    /// Format of the log: one line of text or one JSON object per event.
    #[arg(long, env = "LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Destination of traces.
    #[command(flatten)]
    pub traces: TraceSettings,
}

/// A log filter whose syntax has been checked.
#[derive(Clone, Debug)]
pub struct LogFilter(String);

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A readable line of text per event.
    Human,
    /// A JSON object per event.
    Json,
}

/// Initializes logs and traces for this process, under the service name `service`. Later calls
/// change nothing. Must be called within a Tokio runtime.
pub fn init(settings: &TelemetrySettings, service: &'static str) -> Result<(), StartError> {
    // h2 warns whenever it closes a connection because of its client, and a client can cause any
    // number of such warnings.
    let filter = EnvFilter::new(format!("h2=error,{},{}=off", settings.log_level.0, traces::SQL));
    let registry = tracing_subscriber::registry();
    let started = match traces::layer(&settings.traces, service)? {
        // A single filter for all layers costs each call less than one filter per layer.
        None => registry.with(filter).with(lines(settings.log_format)).try_init(),
        Some(spans) => {
            let lines = lines(settings.log_format).with_filter(filter);
            registry.with(lines).with(spans).try_init()
        }
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(location, message = panic.payload_as_str().unwrap_or("?"), "panic");
        }));
    }
    Ok(())
}

/// Returns the layer that writes log lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match format {
        LogFormat::Human => human_lines(std::io::stderr),
        LogFormat::Json => json_lines(std::io::stderr),
    }
}

fn human_lines<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_ansi(false);
    lines.fmt_fields(HumanSpans).event_format(HumanEvents).boxed()
}

/// Returns the layer that writes JSON lines. The call's span is written as `span`. The list of all
/// spans is left out because it would repeat that span.
fn json_lines<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).json();
    lines.flatten_event(true).with_span_list(false).boxed()
}

fn parse_filter(text: &str) -> Result<LogFilter, String> {
    // Without this check, a misspelled level would count as a module name and silence everything
    // else.
    let level = |part: &str| {
        part.contains(['=', '[']) || part.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
    };
    if !text.split(',').all(level) {
        return Err(
            "must be error, warn, info, debug, trace or off, or pairs such as info,access::token=debug".to_owned(),
        );
    }
    EnvFilter::try_new(text)
        .map(|_| LogFilter(text.to_owned()))
        .map_err(|error| error.to_string())
}
