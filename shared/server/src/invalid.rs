//! Bounds how many calls a client may make that are refused as invalid.
//!
//! They have a counter of their own, so that typing errors do not use up the logins of an address.
//! A caller who is signed in is counted as a user and not by the address, and takes nothing from
//! the others behind it. Above the limit an invalid call is answered with RESOURCE_EXHAUSTED and
//! the time to wait; a valid one is served as ever. Fields are checked before anything that costs,
//! by their length first, so that either answer is cheap.

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

/// Calls that were refused because too many before them were invalid.
const EXCEEDED: &str = "rpc_server_invalid_calls_exceeded_total";

/// The encoded details of a status. tonic's own have none.
const DETAILS: &str = "grpc-status-details-bin";

/// Puts [`InvalidCallsService`] around a service, inside of what authenticates the caller.
#[derive(Clone, Debug)]
pub(super) struct InvalidCallsLayer(Limits);

#[derive(Clone, Debug)]
struct Limits {
    addresses: AddressLimit,
    users: KeyedLimit<UserId>,
    exceeded: Counter,
}

impl InvalidCallsLayer {
    /// Allows this many invalid calls a minute, and as many at once; 0 is any number.
    pub(super) fn new(per_minute: u32) -> Self {
        let rule = RateRule {
            per_minute,
            burst: per_minute,
        };
        metrics::describe_counter!(
            EXCEEDED,
            "Invalid calls that were answered with RESOURCE_EXHAUSTED because too many before them were invalid."
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

/// Counts the calls that are refused as invalid.
#[derive(Clone, Debug)]
pub(super) struct InvalidCallsService<S> {
    limits: Limits,
    inner: S,
}

/// The client whose invalid calls are counted together.
#[derive(Clone, Copy, Debug)]
enum Client {
    User(UserId),
    /// `None` within the process: it is not counted.
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
    /// A call whose answer is looked at.
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

/// Whether a call was refused for what it said. What tonic itself calls INTERNAL is a message that
/// it cannot read.
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
