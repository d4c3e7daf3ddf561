//! Human-readable log lines.
//!
//! A call is one line of at most 160 characters, such as `2026-05-04T12:30:00.123Z  INFO Login
//! UNAUTHENTICATED CREDENTIALS_INVALID 37ms ip=203.0.113.7 id=…`. Any other event is its message,
//! followed by its fields. An event within a call ends with the client's address and the request
//! id.

use std::{
    fmt::{self, Debug, Write as _},
    time::Duration,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{self, FormatTime as _},
    },
    registry::LookupSpan,
};

/// Target of the event that is logged at the end of a call. The constants below name its fields.
pub const CALL: &str = "call";
/// Field with the gRPC code of a call.
const CODE: &str = "rpc.grpc.status_code";
/// Field with the error reason of a failed call.
const REASON: &str = "reason";
/// Field with the duration of a call in microseconds.
const ELAPSED: &str = "elapsed_us";

/// Maximum length of the line of a call, in characters.
const MAX_CALL_LEN: usize = 160;

/// Formats events.
#[derive(Debug, Default)]
pub(super) struct HumanEvents;

/// Formats the fields of a span: the method, a tab, and then the client's address and the request
/// id.
#[derive(Debug, Default)]
pub(super) struct HumanSpans;

impl<S> FormatEvent<S, HumanSpans> for HumanEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, HumanSpans>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let span = context.event_scope().and_then(|mut scope| {
            scope.find_map(|span| {
                let extensions = span.extensions();
                let formatted = extensions.get::<FormattedFields<HumanSpans>>()?;
                (!formatted.fields.is_empty()).then(|| formatted.fields.clone())
            })
        });
        let (method, origin) = span
            .as_deref()
            .and_then(|span| span.split_once('\t'))
            .unwrap_or_default();
        let mut now = String::new();
        time::time().format_time(&mut Writer::new(&mut now))?;
        let level = event.metadata().level();
        let head = format!("{} {level:>5}", short(&now));
        if event.metadata().target() == CALL {
            return write_line(&mut writer, &call_line(&head, method, &fields, origin));
        }
        let mut line = format!("{head} {}: {}", event.metadata().target(), fields.message);
        line.push_str(if fields.message.is_empty() {
            fields.others.trim_start()
        } else {
            &fields.others
        });
        if !origin.is_empty() {
            write!(line, " {method} {origin}")?;
        }
        write_line(&mut writer, &line)
    }
}

/// Writes a line and escapes control characters, so that untrusted text can neither start a new
/// line nor control the terminal.
fn write_line(writer: &mut Writer<'_>, line: &str) -> fmt::Result {
    for character in line.chars() {
        if character.is_control() {
            write!(writer, "{}", character.escape_default())?;
        } else {
            writer.write_char(character)?;
        }
    }
    writer.write_char('\n')
}

/// Returns the line of a call. A line that is too long loses the address first; then the request id
/// is cut.
fn call_line(head: &str, method: &str, fields: &EventFields, origin: &str) -> String {
    let mut line = format!("{head} {method} {}", fields.code);
    if !fields.reason.is_empty() {
        line.push(' ');
        line.push_str(&fields.reason);
    }
    let elapsed = Duration::from_micros(fields.elapsed_us);
    if elapsed < Duration::from_millis(10) {
        // Writing to a String cannot fail.
        let _ = write!(line, " {:.1}ms", elapsed.as_secs_f64() * 1000.0);
    } else {
        let _ = write!(line, " {}ms", elapsed.as_millis());
    }
    let id = origin.rsplit(' ').next().unwrap_or_default();
    for origin in [origin, id] {
        if line.chars().count() + 1 + origin.chars().count() <= MAX_CALL_LEN {
            line.push(' ');
            line.push_str(origin);
            return line;
        }
    }
    line.push(' ');
    line.push_str(id);
    line.chars().take(MAX_CALL_LEN).collect()
}

/// Truncates a time to milliseconds.
fn short(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{}Z", fraction.get(..3).unwrap_or_default()),
        None => time.to_owned(),
    }
}

impl<'writer> FormatFields<'writer> for HumanSpans {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut origin = Origin::default();
        fields.record(&mut origin);
        if origin.id.is_empty() {
            return Ok(());
        }
        write!(writer, "{}\t", origin.method)?;
        if !origin.ip.is_empty() {
            write!(writer, "ip={} ", origin.ip)?;
        }
        write!(writer, "id={}", origin.id)
    }

    /// Ignores fields that are recorded after the span was created, because none of them is shown.
    fn add_fields(
        &self,
        _current: &'writer mut FormattedFields<Self>,
        _fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        Ok(())
    }
}

/// Fields of a span that identify its call.
#[derive(Debug, Default)]
struct Origin {
    method: String,
    ip: String,
    id: String,
}

impl Visit for Origin {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "client.address" => self.ip = format!("{value:?}"),
            "request_id" => self.id = format!("{value:?}"),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "rpc.method" {
            value.clone_into(&mut self.method);
        }
    }
}

/// Fields of an event.
#[derive(Debug, Default)]
struct EventFields {
    message: String,
    code: String,
    reason: String,
    elapsed_us: u64,
    /// All fields except the message, each preceded by a space.
    others: String,
}

impl EventFields {
    fn other(&mut self, field: &Field, value: &dyn fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.others, " {}={value}", field.name());
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.other(field, &format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            CODE => {
                value.clone_into(&mut self.code);
                self.other(field, &value);
            }
            REASON => {
                value.clone_into(&mut self.reason);
                self.other(field, &value);
            }
            _ => self.other(field, &format_args!("{value:?}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == ELAPSED {
            self.elapsed_us = value;
        }
        self.other(field, &value);
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that `log` writes, without their times.
    fn logged(log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry().with(super::super::human_lines(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(written.0.lock().clone()).expect("UTF-8");
        let lines = text.lines();
        lines
            .map(|line| {
                let (time, rest) = line.split_at("2026-05-04T12:30:00.123Z".len());
                assert!(time.ends_with('Z') && time.contains('T'), "{line}");
                rest.trim_start().to_owned()
            })
            .collect()
    }

    fn call(method: &str, ip: &str, id: &str, reason: Option<&str>) {
        let span = tracing::info_span!(
            "rpc",
            rpc.service = "auth.v1.AuthService",
            rpc.method = method,
            request_id = %id,
            user_id = tracing::field::Empty,
            client.address = %ip
        );
        span.record("user_id", "somebody");
        span.in_scope(|| {
            tracing::warn!(seconds = 3, "the clock is wrong");
            tracing::info!(
                target: CALL,
                { rpc.grpc.status_code = "UNAUTHENTICATED", reason, elapsed_us = 37_412_u64 },
                "call"
            );
        });
    }

    #[test]
    fn a_call_is_logged_as_one_line_with_its_reason() {
        let lines = logged(|| call("Login", "203.0.113.7", "abc", Some("CREDENTIALS_INVALID")));
        assert_eq!(
            lines,
            [
                "WARN base::telemetry::human::tests: the clock is wrong seconds=3 Login ip=203.0.113.7 id=abc",
                "INFO Login UNAUTHENTICATED CREDENTIALS_INVALID 37ms ip=203.0.113.7 id=abc",
            ]
        );
        let lines = logged(|| call("Login", "203.0.113.7", "abc", None));
        assert_eq!(lines[1], "INFO Login UNAUTHENTICATED 37ms ip=203.0.113.7 id=abc");
    }

    #[test]
    fn a_long_line_omits_the_address_but_keeps_the_request_id() {
        let id = "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42";
        let ip = "2001:db8:1111:2222:3333:4444:5555:6666";
        let lines = logged(|| call("RotateServiceAccountSecret", ip, id, Some("TOO_MANY_CONCURRENT_CALLS")));
        // The time and a space, which precede the line, are 25 characters.
        assert!(lines[1].len() + 25 <= MAX_CALL_LEN, "{}", lines[1]);
        assert_eq!(
            lines[1],
            format!("INFO RotateServiceAccountSecret UNAUTHENTICATED TOO_MANY_CONCURRENT_CALLS 37ms id={id}")
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let lines = logged(|| tracing::info!(error = %"a\nb\x1b[31m", "two\nlines"));
        assert_eq!(
            lines,
            [r"INFO base::telemetry::human::tests: two\nlines error=a\nb\u{1b}[31m"]
        );
    }

    #[test]
    fn events_outside_calls_show_their_message_and_fields() {
        let lines = logged(|| tracing::info!(grpc = %"127.0.0.1:1", text = "a b", "starting"));
        assert_eq!(
            lines,
            [r#"INFO base::telemetry::human::tests: starting grpc=127.0.0.1:1 text="a b""#]
        );
    }
}
