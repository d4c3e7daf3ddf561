//! Limit on the invalid calls of a client.
//!
//! Invalid calls have a counter of their own, so that typing errors do not use up the logins of an
//! address. A logged-in caller is counted as a user rather than by address, and so takes nothing
//! from other callers at the same address.
//!
//! Beyond the limit, an invalid call is answered with RESOURCE_EXHAUSTED and the time to wait.
//! Valid calls are not affected. Fields are checked before any costly work, and their length first,
//! so that either answer is cheap.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use access::authz::{self, Caller};
use base::{
    error::ErrorReply,
    ids::UserId,
    rate::{AddressLimit, KeyedLimit, RateRule},
};
use http::{HeaderMap, Request, Response};
use ipnet::IpNet;
use metrics::Counter;
use pin_project_lite::pin_project;
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{codes::code_of, peer::ClientAddress};

/// Counter of invalid calls beyond the limit.
const EXCEEDED: &str = "rpc_server_invalid_calls_exceeded_total";

/// Header with the encoded details of a status. A status that tonic itself creates has none.
const DETAILS: &str = "grpc-status-details-bin";

/// Layer that wraps a service in an [`InvalidCallsService`]. It belongs inside the layer that
/// authenticates the caller.
#[derive(Clone, Debug)]
pub(super) struct InvalidCallsLayer(Limits);

#[derive(Clone, Debug)]
struct Limits {
    addresses: AddressLimit,
    users: KeyedLimit<UserId>,
    exceeded: Counter,
}

impl InvalidCallsLayer {
    /// Allows each client this many invalid calls per minute, also in one burst. 0 means no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        let rule = RateRule {
            per_minute,
            burst: per_minute,
        };
        metrics::describe_counter!(
            EXCEEDED,
            "Number of invalid calls that were refused with RESOURCE_EXHAUSTED because their client had made too many."
        );
        let exceeded = metrics::counter!(EXCEEDED);
        exceeded.increment(0);
        Self(Limits {
            addresses: AddressLimit::new(rule),
            users: KeyedLimit::new(rule),
            exceeded,
        })
    }
}

impl<S> Layer<S> for InvalidCallsLayer {
    type Service = InvalidCallsService<S>;

    fn layer(&self, inner: S) -> InvalidCallsService<S> {
        InvalidCallsService {
            limits: self.0.clone(),
            inner,
        }
    }
}

/// Service that counts the calls that are refused as invalid.
#[derive(Clone, Debug)]
pub(super) struct InvalidCallsService<S> {
    limits: Limits,
    inner: S,
}

/// Client whose invalid calls are counted together.
#[derive(Clone, Copy, Debug)]
enum Client {
    User(UserId),
    /// `None` for a call from within the process, which is not counted.
    Address(Option<IpNet>),
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for InvalidCallsService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error = Infallible>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = Counting<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let counted = (!authz::is_infrastructure(request.uri().path())).then(|| {
            let extensions = request.extensions();
            let client = match extensions.get::<Caller>() {
                Some(Caller::Principal(principal)) => Client::User(principal.user_id()),
                _ => Client::Address(extensions.get::<ClientAddress>().and_then(ClientAddress::bucket)),
            };
            (self.limits.clone(), client)
        });
        Counting {
            inner: self.inner.call(request),
            counted,
        }
    }
}

pin_project! {
    /// Call whose response is inspected.
    pub(super) struct Counting<F> {
        #[pin]
        inner: F,
        counted: Option<(Limits, Client)>,
    }
}

impl<F, ResBody> Future for Counting<F>
where
    F: Future<Output = Result<Response<ResBody>, Infallible>>,
    ResBody: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(cx));
        if is_invalid(response.headers())
            && let Some((limits, client)) = this.counted
            && let Err(wait) = limits.count(*client)
        {
            return Poll::Ready(Ok(Status::from(refusal(wait)).into_http()));
        }
        Poll::Ready(Ok(response))
    }
}

impl Limits {
    fn count(&self, client: Client) -> Result<(), Duration> {
        let counted = match client {
            Client::User(user) => self.users.admit(&user),
            Client::Address(bucket) => self.addresses.admit(bucket),
        };
        counted.inspect_err(|_| self.exceeded.increment(1))
    }
}

/// Returns whether a call was refused because of its content. An INTERNAL without details comes
/// from tonic, and means that tonic cannot read the message.
fn is_invalid(headers: &HeaderMap) -> bool {
    match code_of(headers) {
        Code::InvalidArgument | Code::OutOfRange => true,
        Code::Internal => !headers.contains_key(DETAILS),
        _ => false,
    }
}

fn refusal(wait: Duration) -> ErrorReply {
    ErrorReply::new(
        Code::ResourceExhausted,
        ErrorReason::TooManyInvalidCalls,
        "this call is invalid, and so were too many calls before it; correct it before you try again",
    )
    .with_retry_after(wait)
}
