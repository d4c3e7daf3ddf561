//! Admission of calls: limits how many calls of each kind are served at once.

use base::{
    concurrency_limit::ConcurrencyLimit,
    error::ErrorReply,
    shares::{Share, Shares},
};
use http::Request;
use ipnet::IpNet;
use proto::authz::v1::ErrorReason;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Code;

use super::{ServerSettings, peer::ClientAddress, rpcs::is_reflection, serve::Connection};

/// Counter of calls that were refused because the server was at a limit.
const OVERLOADED: &str = "rpc_server_overloaded_total";

const HEALTH: &str = "/grpc.health.v1.Health/";

/// Largest number of open reflection streams. Clients are done with theirs within a second.
const REFLECTION_STREAMS: u32 = 200;
/// Largest number of open health streams. A client with several connections may open one on each.
const HEALTH_STREAMS: u32 = 2000;
/// Largest number of open streams of each of these kinds for one client address, and on one
/// connection.
const STREAMS_PER_ADDRESS: u32 = 64;
const STREAMS_PER_CONNECTION: u32 = 16;

/// Limits of a server.
#[derive(Debug)]
pub(super) struct Admission {
    calls: ConcurrencyLimit,
    /// Streams stay open for long, so they have a limit of their own.
    streams: ConcurrencyLimit,
    reflection: OpenStreams,
    health: OpenStreams,
}

/// Limits for streams that any caller may open without a token. No single caller may use up all of
/// them.
#[derive(Debug)]
struct OpenStreams {
    places: ConcurrencyLimit,
    by_address: Shares<IpNet>,
    by_connection: Shares<u64>,
}

/// Permit for one call. Dropping it makes room for another.
#[derive(Debug, Default)]
pub(super) struct CallPermit {
    _permit: Option<OwnedSemaphorePermit>,
    _of_address: Option<Share<IpNet>>,
    _of_connection: Option<Share<u64>>,
}

#[cfg(test)]
impl CallPermit {
    /// Creates a permit that holds only this share.
    pub(super) fn for_test(share: Share<u64>) -> Self {
        Self {
            _of_connection: Some(share),
            ..Self::default()
        }
    }
}

impl Admission {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        metrics::describe_counter!(
            OVERLOADED,
            "Number of calls that were refused because the server was at its limit of calls or streams."
        );
        // Start at zero, so that an alert sees the first refusal.
        metrics::counter!(OVERLOADED).increment(0);
        Self {
            calls: places(settings.max_concurrent_requests),
            streams: places(settings.max_concurrent_streams),
            reflection: OpenStreams::new(REFLECTION_STREAMS),
            health: OpenStreams::new(HEALTH_STREAMS),
        }
    }

    /// Returns a permit for this call, or the error with which to refuse it.
    ///
    /// A single health check needs no permit. A busy server is not a dead one, and a restart would
    /// only make matters worse.
    pub(super) fn admit<B>(&self, request: &Request<B>, is_stream: bool) -> Result<CallPermit, ErrorReply> {
        let path = request.uri().path();
        let admitted = if is_reflection(path) {
            self.reflection.take(request)
        } else if path.starts_with(HEALTH) {
            if !is_stream {
                return Ok(CallPermit::default());
            }
            self.health.take(request)
        } else if is_stream {
            take(&self.streams)
        } else {
            take(&self.calls)
        };
        admitted.inspect_err(|_| metrics::counter!(OVERLOADED).increment(1))
    }
}

impl OpenStreams {
    fn new(count: u32) -> Self {
        Self {
            places: places(count),
            by_address: Shares::new(STREAMS_PER_ADDRESS),
            by_connection: Shares::new(STREAMS_PER_CONNECTION),
        }
    }

    fn take<B>(&self, request: &Request<B>) -> Result<CallPermit, ErrorReply> {
        let extensions = request.extensions();
        let address: Option<&ClientAddress> = extensions.get();
        // A proxy forwards the calls of many clients on one connection.
        let is_forwarded = address.is_some_and(|address| address.client() != address.peer());
        let connection = extensions.get().map(|connection: &Connection| connection.id);
        let connection = connection.filter(|_| !is_forwarded);
        let address = address.and_then(ClientAddress::bucket);
        let too_many = |of: &str| {
            overloaded(format!(
                "this {of} already has the maximum number of open streams of this kind"
            ))
        };
        let of_connection = connection.map(|id| self.by_connection.take(id).ok_or_else(|| too_many("connection")));
        let of_address = address.map(|address| self.by_address.take(address).ok_or_else(|| too_many("address")));
        Ok(CallPermit {
            _of_connection: of_connection.transpose()?,
            _of_address: of_address.transpose()?,
            ..take(&self.places)?
        })
    }
}

/// Creates a limit of `count` places. Up to half as many refusals per second cost little compared
/// with the calls, so the suggested back-off grows only beyond that.
fn places(count: u32) -> ConcurrencyLimit {
    ConcurrencyLimit::new(count, count.div_ceil(2))
}

fn take(places: &ConcurrencyLimit) -> Result<CallPermit, ErrorReply> {
    match places.take() {
        Ok(place) => Ok(CallPermit {
            _permit: Some(place),
            ..CallPermit::default()
        }),
        Err(wait) => Err(
            overloaded("the server is at its limit of calls or open streams; try again in a moment")
                .with_retry_after(wait),
        ),
    }
}

fn overloaded(message: impl Into<std::borrow::Cow<'static, str>>) -> ErrorReply {
    ErrorReply::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
        .with_retry_about(std::time::Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_not_reflection_because_of_its_name() {
        let settings = ServerSettings {
            max_concurrent_requests: 1,
            ..ServerSettings::default()
        };
        let admission = Admission::new(&settings);
        let admit = |path: &str, is_stream| {
            let request = Request::post(path).body(()).expect("a request");
            admission.admit(&request, is_stream)
        };
        let _call = admit("/clock.v1.ClockService/ServerReflectionInfo", false).expect("a place");
        admit("/clock.v1.ClockService/ServerReflectionInfo", false).expect_err("every place is taken");
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            admit(&path, true).expect("reflection has places of its own");
        }
    }
}
