//! Limit on the calls in flight of one user, so that one user cannot use up the capacity for all.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use access::authz::{self, Caller, StreamCaller};
use base::{
    error::ErrorReply,
    ids::UserId,
    shares::{Share, Shares},
};
use futures_util::future::Either;
use http::{Request, Response};
use metrics::Counter;
use pin_project_lite::pin_project;
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::ServerSettings;

/// Counter of calls that were refused because their user had too many in flight.
const EXCEEDED: &str = "rpc_server_concurrent_calls_exceeded_total";

/// Suggested back-off after a refusal.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Layer that wraps a service in a [`ConcurrencyService`]. It belongs inside the layer that
/// authenticates the caller.
#[derive(Clone, Debug)]
pub(super) struct ConcurrencyLayer(Limits);

#[derive(Clone, Debug)]
struct Limits {
    people: Shares<UserId>,
    /// Limits for service accounts. One account calls for many users, from several replicas.
    services: Shares<UserId>,
    exceeded: Counter,
}

impl ConcurrencyLayer {
    /// Limits each person as the settings say, and each service account to half of the capacity of
    /// the server.
    pub(super) fn new(settings: &ServerSettings) -> Self {
        metrics::describe_counter!(
            EXCEEDED,
            "Number of calls that were refused because their user had too many calls in flight."
        );
        let exceeded = metrics::counter!(EXCEEDED);
        exceeded.increment(0);
        let half = settings.max_concurrent_requests.div_ceil(2);
        Self(Limits {
            people: Shares::new(settings.max_concurrent_requests_per_user.min(half)),
            services: Shares::new(half),
            exceeded,
        })
    }
}

impl<S> Layer<S> for ConcurrencyLayer {
    type Service = ConcurrencyService<S>;

    fn layer(&self, inner: S) -> ConcurrencyService<S> {
        ConcurrencyService {
            limits: self.0.clone(),
            inner,
        }
    }
}

/// Service that refuses the calls of a user who has too many in flight.
#[derive(Clone, Debug)]
pub(super) struct ConcurrencyService<S> {
    limits: Limits,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ConcurrencyService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error = Infallible>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = Either<Counted<S::Future>, Ready<Result<Response<ResBody>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.limits.admit(&request) {
            Ok(share) => Either::Left(Counted {
                inner: self.inner.call(request),
                _share: share,
            }),
            Err(reply) => Either::Right(ready(Ok(Status::from(reply).into_http()))),
        }
    }
}

pin_project! {
    /// Call that counts towards the limit of its user.
    pub(super) struct Counted<F> {
        #[pin]
        inner: F,
        _share: Option<Share<UserId>>,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}

impl Limits {
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Share<UserId>>, ErrorReply> {
        let extensions = request.extensions();
        let is_stream = extensions.get::<StreamCaller>().is_some();
        let Some(Caller::Principal(principal)) = extensions.get() else {
            return Ok(None);
        };
        if is_stream || authz::is_infrastructure(request.uri().path()) {
            return Ok(None);
        }
        let shares = if principal.is_service() {
            &self.services
        } else {
            &self.people
        };
        let share = shares.take(principal.user_id());
        share.map(Some).ok_or_else(|| {
            self.exceeded.increment(1);
            refusal()
        })
    }
}

fn refusal() -> ErrorReply {
    ErrorReply::new(
        Code::ResourceExhausted,
        ErrorReason::TooManyConcurrentCalls,
        "you have too many calls in flight; wait until some of them have been answered",
    )
    .with_retry_about(RETRY_AFTER)
}
