//! What operators see: logs, [metrics] and [traces].
//!
//! Logs: `tracing`, for people or as JSON, on standard error. Standard output is for what a command answers.
//!
//! What may be logged: ids, names of RPCs, codes, durations, addresses. Never a token, a password, a key, an e-mail address
//! or a request as a whole.

pub mod metrics;
pub mod traces;

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, fmt, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use self::traces::TraceSettings;
use crate::StartError;

/// How logs are written.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct TelemetrySettings {
    /// What is logged: error, warn, info, debug or trace, also by module (`info,access::token=debug`).
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = parse_filter)]
    pub log_level: LogFilter,
    /// For people or for machines.
    #[arg(long, env = "LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceSettings,
}

/// A checked filter for logs.
#[derive(Clone, Debug)]
pub struct LogFilter(String);

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    Human,
    /// One JSON object an event.
    Json,
}

/// Starts logs and traces for this process, which others know as `service`. Calling it again changes nothing. Needs a runtime.
pub fn init(settings: &TelemetrySettings, service: &'static str) -> Result<(), StartError> {
    // h2 warns of each connection that it ends for what its client does, which may be without end.
    let filter = EnvFilter::new(format!("h2=error,{},{}=off", settings.log_level.0, traces::SQL));
    let registry = tracing_subscriber::registry();
    let started = match traces::layer(&settings.traces, service)? {
        // One filter for everything costs a call less than one for each layer.
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

/// The layer that writes lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

fn parse_filter(text: &str) -> Result<LogFilter, String> {
    // A word that is no level would be taken for a module, and silence everything else.
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
