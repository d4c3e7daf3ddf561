//! Server streams. A stream holds its place, and is logged and measured when it ends. It ends at
//! the latest when its caller is no longer admitted, when its deadline passes, or when the server
//! stops.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use access::{
    authz::{self, Caller, StreamCaller},
    policy::Permission,
    token::{Principal, TokenError, Verifier},
    view::{AccessView, Refused},
};
use base::error::ErrorReply;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, Response,
    header::{self, CONTENT_TYPE},
};
use http_body::Frame;
use parking_lot::{Mutex, MutexGuard};
use proto::authz::v1::ErrorReason;
use tokio::{task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes},
};
use tracing::{Instrument as _, Span};

use super::{admission::CallPermit, deadline, record::Record, request_id::RequestId, rest::Dialect};

/// Longest interval between two checks of a token's expiry. The clock may be set in the meantime.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time in which health watchers still learn that the server is stopping.
const SHUTDOWN_NOTICE: Duration = Duration::from_millis(200);
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Dependencies of every stream.
#[derive(Clone, Debug)]
pub(super) struct StreamRules {
    pub(super) verifier: Verifier,
    pub(super) access: AccessView,
    pub(super) stop: CancellationToken,
}

/// Body of a streaming response.
///
/// A separate task watches whether the stream has to end. hyper does not poll a body while the
/// client takes nothing in. Such a client must not keep its place, or whatever the RPC holds for
/// it.
pub(super) struct StreamBody {
    stream: Arc<Mutex<Stream>>,
    watch: AbortHandle,
    id: RequestId,
    span: Span,
}

struct Stream {
    state: State,
    /// Waker of the reader that waits for a frame.
    waker: Option<Waker>,
}

enum State {
    Live(Box<Live>),
    /// The stream had to end, but the client has not been told yet.
    Ended(Box<ErrorReply>),
    Over,
}

struct Live {
    inner: Body,
    record: Record,
    _place: CallPermit,
}

impl StreamRules {
    /// Waits until the stream has to end although its RPC has not ended it, and returns the reason.
    pub(super) fn until_end(
        &self,
        caller: &StreamCaller,
        deadline: Option<Duration>,
        is_infrastructure: bool,
    ) -> BoxFuture<'static, ErrorReply> {
        let (rules, caller) = (self.clone(), caller.get());
        Box::pin(async move {
            tokio::select! {
                () = rules.stopped(is_infrastructure) => ErrorReply::new(
                    Code::Unavailable,
                    ErrorReason::ShuttingDown,
                    "the server is shutting down; call again",
                )
                .with_retry_about(RETRY_AFTER),
                reply = rules.refused(caller) => reply,
                () = deadline_passed(deadline) => deadline::exceeded(),
            }
        })
    }

    async fn stopped(&self, is_infrastructure: bool) {
        self.stop.cancelled().await;
        if is_infrastructure {
            sleep(SHUTDOWN_NOTICE).await;
        }
    }

    /// Waits until the caller would be refused, and returns the reason. Never returns for an
    /// anonymous caller.
    async fn refused(&self, caller: Option<(Arc<Principal>, Option<Permission>)>) -> ErrorReply {
        let Some((principal, permission)) = caller else {
            return std::future::pending().await;
        };
        let expired = async {
            while let Some(left) = self.verifier.time_left(&principal) {
                sleep(left.min(CHECK_INTERVAL)).await;
            }
        };
        let refused = tokio::select! {
            () = expired => Refused::Token(TokenError::Expired),
            refused = self.access.refused(&principal, permission.as_ref()) => refused,
        };
        match (refused, permission) {
            (Refused::Permission, Some(permission)) => authz::permission_denied(&permission),
            (Refused::Permission, None) => ErrorReply::internal(),
            (Refused::Token(error), _) => refusal(error),
        }
    }
}

fn refusal(error: TokenError) -> ErrorReply {
    match Caller::Refused(error).principal() {
        Err(reply) => reply,
        Ok(_) => ErrorReply::internal(),
    }
}

async fn deadline_passed(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => sleep(deadline).await,
        None => std::future::pending().await,
    }
}

impl StreamBody {
    pub(super) fn new(
        inner: Body,
        end: BoxFuture<'static, ErrorReply>,
        (id, record, span): (RequestId, Record, Span),
        place: CallPermit,
    ) -> Self {
        let live = Live {
            inner,
            record,
            _place: place,
        };
        let stream = Arc::new(Mutex::new(Stream {
            state: State::Live(Box::new(live)),
            waker: None,
        }));
        let watched = Arc::clone(&stream);
        let watch = async move {
            let reply = end.await;
            lock(&watched).end(reply);
        };
        Self {
            stream,
            watch: tokio::spawn(watch.instrument(span.clone())).abort_handle(),
            id,
            span,
        }
    }
}

impl Stream {
    /// Releases everything that the stream holds. The client is told the reason as soon as it reads
    /// on.
    fn end(&mut self, reply: ErrorReply) {
        if let State::Live(live) = &mut self.state {
            live.record.code = reply.code();
            live.record.reason = Some(reply.reason().into());
            self.state = State::Ended(Box::new(reply));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// A panic leaves nothing half written here.
fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock()
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let _entered = this.span.clone().entered();
        let mut stream = lock(&this.stream);
        let live = match &mut stream.state {
            State::Live(live) => live,
            State::Ended(reply) => {
                let told = Frame::trailers(trailers((**reply).clone(), &this.id));
                stream.state = State::Over;
                return Poll::Ready(Some(Ok(told)));
            }
            State::Over => return Poll::Ready(None),
        };
        let frame = Pin::new(&mut live.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    live.record.code = super::codes::code_of(trailers);
                    live.record.reason = Status::from_header_map(trailers)
                        .as_ref()
                        .and_then(super::reply::reason_of);
                }
            }
            Poll::Ready(Some(Err(status))) => {
                live.record.code = status.code();
                live.record.reason = super::reply::reason_of(status);
            }
            Poll::Ready(None) => {
                this.watch.abort();
                stream.state = State::Over;
            }
            Poll::Pending => stream.waker = Some(cx.waker().clone()),
        }
        frame
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn trailers(reply: ErrorReply, id: &RequestId) -> HeaderMap {
    let response: Response<Body> = Status::from(reply).into_http();
    let mut headers = super::reply::complete(response, id, Dialect::Grpc)
        .into_parts()
        .0
        .headers;
    headers.remove(CONTENT_TYPE);
    headers.remove(header::RETRY_AFTER);
    headers
}

#[cfg(test)]
mod tests {
    use base::shares::Shares;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn an_unread_stream_frees_its_place_once_it_ends() {
        let shares = Shares::new(1);
        let place = CallPermit::for_test(shares.take(1).expect("a place"));
        let (end, ended) = oneshot::channel();
        let ended = async { ended.await.expect("a reply") };
        let (id, record) = (RequestId::of(&HeaderMap::new()), Record::for_test());
        // This body is never polled until it has ended.
        let body = StreamBody::new(Body::empty(), Box::pin(ended), (id, record, Span::none()), place);
        assert!(shares.take(1).is_none());
        let _ = end.send(deadline::exceeded());
        // The task that ends the stream runs while this one yields.
        let freed = async {
            while shares.take(1).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed)
            .await
            .expect("in time");
        // Once the client reads on, it is told the reason.
        let mut body = Box::pin(body);
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let trailers = frame
            .expect("a frame")
            .expect("no error")
            .into_trailers()
            .expect("trailers");
        assert_eq!(super::super::codes::code_of(&trailers), Code::DeadlineExceeded);
        assert!(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_none());
    }

    #[tokio::test]
    async fn the_record_of_a_stream_that_breaks_says_why() {
        let broken = futures_util::stream::iter([Err::<Frame<Bytes>, Status>(deadline::exceeded().into())]);
        let broken = Body::new(http_body_util::StreamBody::new(broken));
        let (id, record) = (RequestId::of(&HeaderMap::new()), Record::for_test());
        let parts = (id, record, Span::none());
        let mut body = Box::pin(StreamBody::new(
            broken,
            Box::pin(std::future::pending()),
            parts,
            CallPermit::default(),
        ));
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        assert!(frame.expect("a frame").is_err());
        let stream = lock(&body.stream);
        let State::Live(live) = &stream.state else {
            panic!("the caller has not read to the end yet");
        };
        assert_eq!(live.record.code, Code::DeadlineExceeded);
        assert_eq!(live.record.reason.as_deref(), Some("DEADLINE_EXCEEDED"));
    }
}
