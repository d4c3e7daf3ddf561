//! ConcurrencyLimit for calls: how many may be served at once, of each kind.

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

use super::{ServerSettings, peer::ClientAddress, rpcs::REFLECTION, serve::Connection};

/// Calls that found no place.
const OVERLOADED: &str = "rpc_server_overloaded_total";

const HEALTH: &str = "/grpc.health.v1.Health/";

/// Streams of reflection at once. Clients read it and are done within a second.
const REFLECTION_STREAMS: u32 = 200;
/// Streams of health at once. A client with several connections may follow it on each.
const HEALTH_STREAMS: u32 = 2000;
/// How many of those one client address may have open, and one connection.
const STREAMS_PER_ADDRESS: u32 = 64;
const STREAMS_PER_CONNECTION: u32 = 16;

/// The places of a server.
#[derive(Debug)]
pub(super) struct Admission {
    calls: ConcurrencyLimit,
    /// Streams stay for long, and take no place from the other calls.
    streams: ConcurrencyLimit,
    reflection: OpenStreams,
    health: OpenStreams,
}

/// Streams that anybody may open, so that nobody may open all of them.
#[derive(Debug)]
struct OpenStreams {
    places: ConcurrencyLimit,
    by_address: Shares<IpNet>,
    by_connection: Shares<u64>,
}

/// A place, which is free again when this is dropped.
#[derive(Debug, Default)]
pub(super) struct CallPermit {
    _permit: Option<OwnedSemaphorePermit>,
    _of_address: Option<Share<IpNet>>,
    _of_connection: Option<Share<u64>>,
}

#[cfg(test)]
impl CallPermit {
    /// A place that holds nothing but this.
    pub(super) fn of_test(share: Share<u64>) -> Self {
        Self {
            _of_connection: Some(share),
            ..Self::default()
        }
    }
}

impl Admission {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        metrics::describe_counter!(OVERLOADED, "Calls that were refused because the server was busy.");
        // There from the start: an alert sees the first one.
        metrics::counter!(OVERLOADED).increment(0);
        Self {
            calls: places(settings.max_concurrent_requests),
            streams: places(settings.max_concurrent_streams),
            reflection: OpenStreams::new(REFLECTION_STREAMS),
            health: OpenStreams::new(HEALTH_STREAMS),
        }
    }

    /// A place for this call, or the refusal.
    ///
    /// A single health check needs none: a busy server is not a dead one, and restarting it would
    /// make things worse.
    pub(super) fn admit<B>(&self, request: &Request<B>, is_stream: bool) -> Result<CallPermit, ErrorReply> {
        let path = request.uri().path();
        let admitted = if path.ends_with(REFLECTION) {
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
        // A proxy brings many clients by one connection.
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

/// So many places for calls. To refuse half as many a second costs little beside them.
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
