//! Outermost layer, for all RPCs.
//!
//! It gives every call a request id, a span with the OpenTelemetry names, one log line and one
//! measurement, a place among the calls in flight, and a deadline. A panic becomes an INTERNAL
//! error instead of a broken connection. Every error, including those of tonic itself, gets an
//! `ErrorInfo` and the request id.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use access::{authz::StreamCaller, policy::Policies};
use base::{
    error::ErrorReply,
    running::Running,
    telemetry::{self, metrics::InFlight, traces},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use ipnet::IpNet;
use metrics::Gauge;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, StdError},
};
use tower::{Layer, Service};
use tracing::{Instrument as _, field::Empty};

use super::{
    ServerSettings,
    admission::{Admission, CallPermit},
    codes::code_of,
    deadline,
    message::{self, Arrival},
    peer::ClientAddress,
    record::Record,
    refusals::Refusals,
    reply::{ReplyReason, complete},
    request_id::RequestId,
    rest::Dialect,
    rpcs::{Rpcs, is_reflection},
    stream::{StreamBody, StreamRules},
    unfinished::Unfinished,
};

/// Gauge of calls and streams in flight.
const IN_FLIGHT: &str = "rpc_server_in_hand";
/// Longest duration of a reflection stream. Clients need one only for a moment.
const REFLECTION_LIFE: Duration = Duration::from_secs(30);

/// Describes the metrics of calls.
fn describe_metrics() {
    metrics::describe_gauge!(IN_FLIGHT, "Number of calls and streams that are being served.");
}

/// Layer that wraps a service in an [`RpcService`].
#[derive(Clone, Debug)]
pub(super) struct RpcLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rpcs: Arc<Rpcs>,
    refusals: Arc<Refusals>,
    admission: Admission,
    unfinished: Unfinished,
    timeout: Duration,
    trusted_proxies: Vec<IpNet>,
    streams: StreamRules,
    in_flight: Gauge,
}

impl RpcLayer {
    /// Creates the layer. `policies` determines which paths are RPCs; other paths never become
    /// labels of metrics.
    pub(super) fn new(policies: &Policies, settings: &ServerSettings, streams: StreamRules, running: &Running) -> Self {
        // Install the recorder before anything is measured.
        telemetry::metrics::recorder();
        describe_metrics();
        let rpcs = Arc::new(Rpcs::new(policies));
        let refusals = Arc::new(Refusals::new(Arc::clone(&rpcs)));
        Arc::clone(&refusals).spawn(running);
        Self {
            shared: Arc::new(Shared {
                rpcs,
                refusals,
                admission: Admission::new(settings),
                unfinished: Unfinished::new(settings.unfinished_calls_bytes()),
                timeout: settings.request_timeout(),
                trusted_proxies: settings.trusted_proxies.clone(),
                streams,
                in_flight: metrics::gauge!(IN_FLIGHT),
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

    #[expect(clippy::too_many_lines, reason = "the life of a call, in order")]
    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = RequestId::of(request.headers());
        let dialect = Dialect::of(request.headers());
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
            reason: None,
            span: span.clone(),
            refusals: Arc::clone(&self.shared.refusals),
            is_anonymous: true,
            _in_flight: InFlight::new(self.shared.in_flight.clone()),
        };
        let shared = Arc::clone(&self.shared);
        // Only the instance on which `poll_ready` was called is known to be ready. Use that one,
        // and keep the clone for the next call.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let caller = StreamCaller::default();
        if is_stream {
            request.extensions_mut().insert(caller.clone());
        }
        let mut deadline = deadline::caller_timeout(request.headers());
        let is_reflection = is_reflection(request.uri().path());
        if is_reflection {
            deadline = Some(deadline.map_or(REFLECTION_LIFE, |given| given.min(REFLECTION_LIFE)));
        }
        let of_span = span.clone();
        let timeout = deadline::effective_timeout(request.headers(), shared.timeout);
        let patience = timeout.as_ref().copied().unwrap_or_default();
        // Only reflection takes a stream of messages. A malformed deadline is refused without the
        // message.
        let arrival = if is_reflection || timeout.is_err() {
            Arrival::Complete(request)
        } else {
            Arrival::begin(request, &shared.unfinished)
        };
        let answer = move |request: Result<Request<Body>, ErrorReply>| async move {
            let admitted = request.and_then(|request| shared.admit(request, timeout?, is_stream, record.start));
            let (response, place) = match admitted {
                Ok((request, place, timeout)) => {
                    record.is_anonymous = record.rpc.is_public;
                    (respond(inner, request, timeout).await, place)
                }
                Err(reply) => (refused(reply), CallPermit::default()),
            };
            let mut response = complete(response, &id, dialect);
            record.code = code(&response);
            record.reason = response
                .extensions_mut()
                .remove::<ReplyReason>()
                .map(|reason| reason.0.into());
            if is_stream && !response.headers().contains_key(Status::GRPC_STATUS) {
                // The stream has only begun. If the client leaves before its end, the call counts
                // as cancelled.
                record.code = Code::Cancelled;
                let left = deadline.map(|deadline| deadline.saturating_sub(record.start.elapsed()));
                let end = shared.streams.until_end(&caller, left, record.rpc.is_infrastructure);
                return Ok(response.map(|body| Body::new(StreamBody::new(body, end, (id, record, of_span), place))));
            }
            drop((record, place));
            Ok(response)
        };
        match arrival {
            Arrival::Complete(request) => answer(Ok(request)).instrument(span).boxed(),
            // The state for serving the call is allocated only once the message has arrived.
            Arrival::Partial(partial) => async move {
                let request = partial.complete(patience).await;
                Box::pin(answer(request)).await
            }
            .instrument(span)
            .boxed(),
            Arrival::Refused => async move { Box::pin(answer(Err(message::stalled()))).await }
                .instrument(span)
                .boxed(),
        }
    }
}

impl Shared {
    /// Returns the request, a permit for the call, and the rest of the time that the call may take.
    fn admit(
        &self,
        request: Request<Body>,
        timeout: Duration,
        is_stream: bool,
        start: Instant,
    ) -> Result<(Request<Body>, CallPermit, Duration), ErrorReply> {
        if timeout.is_zero() {
            return Err(deadline::exceeded());
        }
        // The permit is taken after the message has arrived, so that a client that sends only
        // headers takes none.
        let place = self.admission.admit(&request, is_stream)?;
        Ok((request, place, timeout.saturating_sub(start.elapsed())))
    }
}

/// Calls the inner service, and waits for its response for at most `timeout`.
async fn respond<S, B>(mut inner: S, request: Request<Body>, timeout: Duration) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    // Call the service inside the block. This also catches a panic in an inner layer that works
    // before it returns a future.
    let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(Ok(response))) => response.map(Body::new),
        Ok(Err(_panic)) => refused(ErrorReply::internal()),
        Err(_elapsed) => refused(deadline::exceeded()),
    }
}

fn refused(reply: ErrorReply) -> Response<Body> {
    Status::from(reply).into_http()
}

fn code(response: &Response<Body>) -> Code {
    code_of(response.headers())
}
