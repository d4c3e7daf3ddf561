//! Deadlines of calls: the metadata `grpc-timeout` (gRPC over HTTP/2, "Timeout") and the server's
//! own limit.

use std::time::Duration;

use base::error::ErrorReply;
use http::HeaderMap;
use proto::authz::v1::ErrorReason;
use tonic::Code;

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Tick of the timer. A shorter timeout would pass before a response could be sent.
const TICK: Duration = Duration::from_millis(1);

/// Returns how long the call may take: the caller's timeout or the server's, whichever is shorter.
/// Returns zero if the caller's timeout is shorter than a tick.
///
/// # Errors
///
/// INVALID_ARGUMENT if `grpc-timeout` is malformed or given more than once.
pub(super) fn effective_timeout(headers: &HeaderMap, server: Duration) -> Result<Duration, ErrorReply> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(value) = values.next() else {
        return Ok(server);
    };
    let timeout = if values.next().is_some() {
        None
    } else {
        parse(value.as_bytes())
    };
    let timeout = timeout.ok_or_else(|| {
        ErrorReply::new(
            Code::InvalidArgument,
            ErrorReason::DeadlineInvalid,
            "`grpc-timeout` must be 1 to 8 digits followed by one of the units H, M, S, m, u, n",
        )
    })?;
    Ok(if timeout < TICK {
        Duration::ZERO
    } else {
        timeout.min(server)
    })
}

/// Returns the caller's timeout, or `None` if there is none or it is malformed.
pub(super) fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get(GRPC_TIMEOUT).and_then(|value| parse(value.as_bytes()))
}

pub(super) fn exceeded() -> ErrorReply {
    ErrorReply::new(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        "the call did not finish before its deadline",
    )
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_parsed_in_the_grpc_format() {
        for (text, expected) in [
            ("0n", Some(Duration::ZERO)),
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn the_shorter_timeout_applies() {
        let server = Duration::from_secs(10);
        let bound = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, value.parse().expect("a header value"));
            effective_timeout(&headers, server).expect("well-formed")
        };
        assert_eq!(bound("1H"), server);
        assert_eq!(bound("1S"), Duration::from_secs(1));
        assert_eq!(bound("0m"), Duration::ZERO);
        assert_eq!(bound("999u"), Duration::ZERO);
        assert_eq!(bound("1m"), Duration::from_millis(1));
        assert_eq!(effective_timeout(&HeaderMap::new(), server).expect("absent"), server);
    }
}
