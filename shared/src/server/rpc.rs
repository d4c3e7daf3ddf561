//! The outermost layer: what every RPC gets, whatever it does.
//!
//! A request id, a span with the OpenTelemetry names, one log line and one measurement per call; a place among
//! the calls in hand; a deadline; an INTERNAL error instead of a torn connection where the code panics; and for every error,
//! also those that tonic makes, an `ErrorInfo` and the request id to quote.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use ipnet::IpNet;
use metrics::Gauge;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, StdError},
};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    admission::{self, admit},
    deadline, message,
    peer::ClientAddress,
    request_id::{REQUEST_ID, RequestId},
    rpcs::{REFLECTION, Rpc, Rpcs, name},
    stream::{StreamBody, StreamCaller, StreamRules},
};
use crate::{
    authz::{self, Policies},
    error::ErrorReply,
    places::Places,
    proto::authz::v1::ErrorReason,
    telemetry::{self, metrics::InHand, traces},
};

/// Calls and streams that are being served.
const IN_HAND: &str = "rpc_server_in_hand";
/// Calls that found no place.
const OVERLOADED: &str = "rpc_server_overloaded_total";

/// How long a client may take to send a message, which is at most 64 KiB.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whoever reads the reflection is done soon, and anybody may: it takes no place for long, and none from those who are known.
const REFLECTION_STREAMS: u32 = 200;
const REFLECTION_LIFE: Duration = Duration::from_secs(30);

/// Says what the metrics of calls mean.
fn describe_metrics() {
    metrics::describe_gauge!(IN_HAND, "Calls and streams that are being served.");
    metrics::describe_counter!(OVERLOADED, "Calls that were refused because the server was busy.");
    // There from the start: an alert sees the first one.
    metrics::counter!(OVERLOADED).increment(0);
}

/// Puts [`RpcService`] around a service.
#[derive(Clone, Debug)]
pub(super) struct RpcLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rpcs: Rpcs,
    places: Places,
    timeout: Duration,
    trusted_proxies: Vec<IpNet>,
    /// Streams stay for long, and take no place from the other calls.
    stream_places: Places,
    reflection_places: Places,
    streams: StreamRules,
    in_hand: Gauge,
}

impl RpcLayer {
    /// `policies` says which paths are RPCs: a label is made of no other.
    pub(super) fn new(
        policies: &Policies,
        places: Places,
        timeout: Duration,
        trusted_proxies: Vec<IpNet>,
        (stream_places, streams): (Places, StreamRules),
    ) -> Self {
        // Before anything is measured.
        telemetry::metrics::recorder();
        describe_metrics();
        Self {
            shared: Arc::new(Shared {
                rpcs: Rpcs::new(policies),
                places,
                timeout,
                trusted_proxies,
                stream_places,
                reflection_places: admission::places(REFLECTION_STREAMS),
                streams,
                in_hand: metrics::gauge!(IN_HAND),
            }),
        }
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> RpcService<S> {
        RpcService {
            shared: Arc::clone(&self.shared),
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct RpcService<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S, B> Service<Request<Body>> for RpcService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = RequestId::of(request.headers());
        let address = ClientAddress::of(&request, &self.shared.trusted_proxies);
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(address);
        let rpc = Arc::clone(self.shared.rpcs.at(request.uri().path()));
        macro_rules! span {
            ($target:expr) => {
                tracing::info_span!(
                    target: $target,
                    "rpc",
                    rpc.system = "grpc",
                    rpc.service = rpc.service,
                    rpc.method = rpc.method,
                    otel.name = rpc.name,
                    otel.kind = "server",
                    otel.status_code = Empty,
                    rpc.grpc.status_code = Empty,
                    request_id = %id,
                    trace_id = Empty,
                    user_id = Empty,
                    client.address = address.client().map(tracing::field::display),
                )
            };
        }
        let span = if rpc.is_infrastructure {
            span!(traces::INFRASTRUCTURE)
        } else {
            span!(module_path!())
        };
        traces::continue_trace(&span, request.headers());
        let is_stream = rpc.is_stream_at(request.uri().path());
        let mut record = Record {
            rpc,
            start: Instant::now(),
            code: Code::Cancelled,
            span: span.clone(),
            _in_hand: InHand::new(self.shared.in_hand.clone()),
        };
        let shared = Arc::clone(&self.shared);
        // The clone is not known to be ready; the one that was asked is.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let caller = StreamCaller::default();
        if is_stream {
            request.extensions_mut().insert(caller.clone());
        }
        let mut deadline = deadline::given(request.headers());
        if request.uri().path().ends_with(REFLECTION) {
            deadline = Some(deadline.map_or(REFLECTION_LIFE, |given| given.min(REFLECTION_LIFE)));
        }
        let of_span = span.clone();
        async move {
            let (response, place) = shared.respond(inner, request, is_stream).await;
            let response = complete(response, &id);
            record.code = code(&response);
            if is_stream && !response.headers().contains_key(Status::GRPC_STATUS) {
                // It has only begun: a client that goes away before its end has cancelled it.
                record.code = Code::Cancelled;
                let left = deadline.map(|deadline| deadline.saturating_sub(record.start.elapsed()));
                let end = shared.streams.end(&caller, left, record.rpc.is_infrastructure);
                return Ok(response.map(|body| Body::new(StreamBody::new(body, end, (id, record, of_span), place))));
            }
            drop((record, place));
            Ok(response)
        }
        .instrument(span)
        .boxed()
    }
}

/// What is logged and measured of a call when it is dropped: also where the caller went away before there was an answer.
pub(super) struct Record {
    rpc: Arc<Rpc>,
    start: Instant,
    pub(super) code: Code,
    span: Span,
    _in_hand: InHand,
}

#[cfg(test)]
impl Record {
    /// Of a call that no client has made.
    pub(super) fn of_test() -> Self {
        Self {
            rpc: Arc::new(Rpc::infrastructure("/test/")),
            start: Instant::now(),
            code: Code::Cancelled,
            span: Span::none(),
            _in_hand: InHand::new(Gauge::noop()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        log(self.code, elapsed, self.rpc.is_infrastructure);
        self.span.record("rpc.grpc.status_code", i32::from(self.code));
        if is_fault(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.rpc.durations(self.code).record(elapsed.as_secs_f64());
    }
}

impl Shared {
    /// The answer, and the place of a call that goes on.
    async fn respond<S, B>(
        &self,
        inner: S,
        request: Request<Body>,
        is_stream: bool,
    ) -> (Response<Body>, Option<OwnedSemaphorePermit>)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let places = if request.uri().path().ends_with(REFLECTION) {
            &self.reflection_places
        } else if is_stream {
            &self.stream_places
        } else {
            &self.places
        };
        let mut place = None;
        let response = self.respond_within(inner, request, places, &mut place).await;
        (response, place)
    }

    async fn respond_within<S, B>(
        &self,
        mut inner: S,
        request: Request<Body>,
        places: &Places,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let refused = |reply: ErrorReply| Status::from(reply).into_http();
        let timeout = match deadline::of(request.headers(), self.timeout) {
            Ok(Duration::ZERO) => return refused(deadline::exceeded()),
            Ok(timeout) => timeout,
            Err(reply) => return refused(reply),
        };
        let start = Instant::now();
        // First the message, then a place: who sends headers and no message holds up nobody else.
        let request = if authz::is_infrastructure(request.uri().path()) {
            request
        } else {
            match tokio::time::timeout(timeout.min(MESSAGE_TIMEOUT), message::received(request)).await {
                Ok(request) => request,
                Err(_elapsed) => return refused(deadline::exceeded()),
            }
        };
        match admit(places, request.uri().path()) {
            Ok(admitted) => *place = admitted,
            Err(reply) => {
                metrics::counter!(OVERLOADED).increment(1);
                return refused(reply);
            }
        }
        let timeout = timeout.saturating_sub(start.elapsed());
        // Within the block, so that a panic of the layers inside, which work before they give a future, is caught as well.
        let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Ok(response))) => response.map(Body::new),
            Ok(Err(_panic)) => refused(ErrorReply::internal()),
            Err(_elapsed) => refused(deadline::exceeded()),
        }
    }
}

/// Gives an error the details that every error has, and every answer its request id.
pub(super) fn complete(response: Response<Body>, id: &RequestId) -> Response<Body> {
    let failed = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
    let mut response = match failed {
        None => response,
        Some(status) => {
            let status = if status.get_details_error_info().is_some() {
                status
            } else {
                tonics_own(&status)
            };
            let mut details = status.get_error_details();
            details.set_request_info(id.as_str(), "");
            let metadata = status.metadata().clone();
            Status::with_error_details_and_metadata(status.code(), status.message(), details, metadata).into_http()
        }
    };
    response.headers_mut().insert(REQUEST_ID, id.header_value());
    response
}

/// What an error that tonic made means to the caller. Those that it calls INTERNAL are all about how it read the request.
fn tonics_own(status: &Status) -> Status {
    let (code, reason, message) = match status.code() {
        Code::Internal => (
            Code::InvalidArgument,
            ErrorReason::MessageMalformed,
            "the request is not a valid message of this RPC's type".to_owned(),
        ),
        Code::OutOfRange => (
            Code::OutOfRange,
            ErrorReason::MessageTooLarge,
            status.message().to_owned(),
        ),
        Code::Unimplemented if status.message().to_ascii_lowercase().contains("compress") => (
            Code::Unimplemented,
            ErrorReason::CompressionUnsupported,
            status.message().to_owned(),
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            ErrorReason::MethodUnknown,
            "this server has no such RPC".to_owned(),
        ),
        code => {
            tracing::warn!(%status, "an error without a reason");
            let reply = ErrorReply::new(code, ErrorReason::Unspecified, status.message().to_owned());
            return reply.into();
        }
    };
    ErrorReply::new(code, reason, message).into()
}

fn code(response: &Response<Body>) -> Code {
    code_of(response.headers())
}

/// The code in the headers, or in the trailers.
pub(super) fn code_of(headers: &HeaderMap) -> Code {
    headers
        .get(Status::GRPC_STATUS)
        .map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// The level says whose concern it is: ours, the operator's or the caller's own.
fn log(code: Code, elapsed: Duration, infrastructure: bool) {
    let code_name = name(code);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(rpc.grpc.status_code = code_name, elapsed_us, "call failed");
        }
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => {
            tracing::warn!(rpc.grpc.status_code = code_name, elapsed_us, "call failed");
        }
        // Probes call every few seconds.
        _ if infrastructure => tracing::debug!(rpc.grpc.status_code = code_name, elapsed_us, "call"),
        _ => tracing::info!(rpc.grpc.status_code = code_name, elapsed_us, "call"),
    }
}

/// Whether the code is a fault of the server (OpenTelemetry's conventions for gRPC).
const fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
