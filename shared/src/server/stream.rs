//! Calls whose answer goes on: a server stream holds its place, is logged and measured at its own end, and ends with what allows
//! it: the caller's token, the caller's deadline, the server itself.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Response, header::CONTENT_TYPE};
use http_body::Frame;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes},
};
use tracing::Span;

use super::{deadline, request_id::RequestId, rpc::Record};
use crate::{
    authz::{self, Caller, Permission},
    error::ErrorReply,
    feed::{AccessView, Refused},
    proto::authz::v1::ErrorReason,
    token::{Principal, TokenError, Verifier},
};

/// How often a token's end is looked at: the clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// Whoever watches health hears first that the server stops.
const LAST_WORDS: Duration = Duration::from_millis(200);
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Who made the call, left by the layer that let it through.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamCaller(Arc<OnceLock<(Arc<Principal>, Option<Permission>)>>);

impl StreamCaller {
    /// Notes the caller, and the permission that the RPC needs.
    pub(crate) fn set(&self, principal: &Arc<Principal>, permission: Option<&Permission>) {
        let _ = self.0.set((Arc::clone(principal), permission.cloned()));
    }
}

/// What every stream depends on.
#[derive(Clone, Debug)]
pub(super) struct StreamRules {
    pub(super) verifier: Verifier,
    pub(super) access: AccessView,
    pub(super) stop: CancellationToken,
}

/// The body of an answer that goes on.
pub(super) struct StreamBody {
    inner: Body,
    /// `None` once it has ended.
    end: Option<BoxFuture<'static, ErrorReply>>,
    id: RequestId,
    record: Record,
    span: Span,
    _place: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl StreamRules {
    /// Why the stream ends before its RPC ends it.
    pub(super) fn end(
        &self,
        caller: &StreamCaller,
        deadline: Option<Duration>,
        is_infrastructure: bool,
    ) -> BoxFuture<'static, ErrorReply> {
        let (rules, caller) = (self.clone(), caller.0.get().cloned());
        Box::pin(async move {
            tokio::select! {
                () = rules.stopped(is_infrastructure) => ErrorReply::new(
                    Code::Unavailable,
                    ErrorReason::ShuttingDown,
                    "the server is shutting down; call again",
                )
                .with_retry_after(RETRY_AFTER),
                reply = rules.refused(caller) => reply,
                () = passed(deadline) => deadline::exceeded(),
            }
        })
    }

    async fn stopped(&self, is_infrastructure: bool) {
        self.stop.cancelled().await;
        if is_infrastructure {
            sleep(LAST_WORDS).await;
        }
    }

    /// Why the caller would be refused now.
    async fn refused(&self, caller: Option<(Arc<Principal>, Option<Permission>)>) -> ErrorReply {
        let Some((principal, permission)) = caller else {
            return std::future::pending().await;
        };
        let expired = async {
            while let Some(left) = self.verifier.time_left(&principal) {
                sleep(left.min(LOOK)).await;
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

async fn passed(deadline: Option<Duration>) {
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
        place: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            inner,
            end: Some(end),
            id,
            record,
            span,
            _place: place,
        }
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let _entered = this.span.clone().entered();
        let Some(end) = &mut this.end else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(reply) = end.as_mut().poll(cx) {
            this.end = None;
            this.record.code = reply.code();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(reply, &this.id)))));
        }
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.record.code = super::rpc::code_of(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => this.record.code = status.code(),
            Poll::Ready(None) => this.end = None,
            Poll::Pending => {}
        }
        frame
    }
}

fn trailers(reply: ErrorReply, id: &RequestId) -> HeaderMap {
    let response: Response<Body> = Status::from(reply).into_http();
    let mut headers = super::rpc::complete(response, id).into_parts().0.headers;
    headers.remove(CONTENT_TYPE);
    headers
}
