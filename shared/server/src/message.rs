//! Reading of the single message of a request, before anything else is done for the call.

use std::{
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use base::error::ErrorReply;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, request::Parts};
use http_body_util::{BodyExt as _, Full};
use proto::authz::v1::ErrorReason;
use tonic::{
    Code,
    body::Body,
    codegen::{Body as _, Bytes},
};

use super::{
    deadline,
    peer::ClientAddress,
    unfinished::{Claim, Unfinished},
};

/// Largest message that an RPC accepts, in bytes.
pub const MAX_MESSAGE_LEN: usize = 64 * 1024;
/// Length of the prefix of a message: its flag and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX_LEN: usize = 5;
/// How long a message may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Size of an entry in a table of headers, besides its texts, in bytes.
const TABLE_ENTRY: usize = 128;
/// Memory of an unfinished call besides its headers and message, in bytes.
const CALL_OVERHEAD: usize = 4 * 1024;

/// Part of a message that has arrived. Frames are copied into a buffer of the call's own.
/// Otherwise, a frame of one byte would keep the whole buffer into which it was read.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
}

/// Mark on a request whose message is larger than the server accepts.
/// [`Mounted`](super::mount::Mounted) refuses the request once the caller has been admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLarge {
    len: u32,
}

impl TooLarge {
    pub(super) fn reply(self) -> ErrorReply {
        let message = format!(
            "the message has {} bytes; this server accepts at most {MAX_MESSAGE_LEN}",
            self.len
        );
        ErrorReply::new(Code::OutOfRange, ErrorReason::MessageTooLarge, message)
    }
}

/// Request with as much of its message as arrived together with the headers.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for as long as a call takes to begin")]
pub(super) enum Arrival {
    /// The whole message has arrived. This is the usual case, and takes nothing from the budget.
    Complete(Request<Body>),
    /// Only a part of the message has arrived.
    Partial(Box<Partial>),
    /// The call is refused, because others need the memory.
    Refused,
}

#[derive(Debug)]
pub(super) struct Partial {
    head: Parts,
    body: Body,
    received: Received,
    /// Memory of the call besides its message, in bytes.
    fixed: usize,
    claim: Claim,
}

impl Arrival {
    /// Takes in the part of the message that has already arrived. This is done at once for each
    /// call on a connection, so that every call that has to wait is counted from the beginning,
    /// however many there are.
    pub(super) fn begin(request: Request<Body>, unfinished: &Unfinished) -> Self {
        let (mut head, mut body) = request.into_parts();
        let mut received = Received::default();
        loop {
            match body.frame().now_or_never() {
                // A body that breaks off is treated like one that ends. The decoder reports what is
                // missing.
                Some(None | Some(Err(_))) => break,
                Some(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if received.bytes.is_empty() && body.is_end_stream() {
                        mark_too_large(&mut head, &data);
                        return Self::Complete(Request::from_parts(head, Body::new(Full::new(data))));
                    }
                    if received.take(&data) {
                        break;
                    }
                }
                None => {
                    let fixed = CALL_OVERHEAD + memory_of(&head.headers);
                    let address = head.extensions.get().and_then(ClientAddress::bucket);
                    let Some(claim) = unfinished.claim(address, fixed + received.bytes.capacity()) else {
                        return Self::Refused;
                    };
                    return Self::Partial(Box::new(Partial {
                        head,
                        body,
                        received,
                        fixed,
                        claim,
                    }));
                }
            }
        }
        Self::Complete(received.complete(head))
    }
}

impl Partial {
    /// Waits for the rest of the message. If the message is too large, waits only for as much as
    /// the decoder needs to detect that.
    ///
    /// # Errors
    ///
    /// DEADLINE_EXCEEDED if the message takes longer than `patience` or ten seconds, and
    /// RESOURCE_EXHAUSTED if others need the memory.
    pub(super) async fn complete(self: Box<Self>, patience: Duration) -> Result<Request<Body>, ErrorReply> {
        tokio::time::timeout(patience.min(TIMEOUT), self.rest())
            .await
            .unwrap_or_else(|_elapsed| Err(deadline::exceeded()))
    }

    async fn rest(self: Box<Self>) -> Result<Request<Body>, ErrorReply> {
        let Self {
            head,
            mut body,
            mut received,
            fixed,
            mut claim,
        } = *self;
        let refused = claim.refused();
        let mut refused = pin!(refused.cancelled());
        loop {
            let frame = std::future::poll_fn(|cx| match refused.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(())),
                Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Ok),
            })
            .await;
            match frame {
                Err(()) => return Err(stalled()),
                Ok(None | Some(Err(_))) => break,
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if received.take(&data) {
                        break;
                    }
                    claim.grow_to(fixed + received.bytes.capacity());
                }
            }
        }
        Ok(received.complete(head))
    }
}

impl Received {
    /// Adds a frame. Returns whether the message is already too large.
    fn take(&mut self, data: &Bytes) -> bool {
        let most = PREFIX_LEN + MAX_MESSAGE_LEN + 1;
        let data = &data[..data.len().min(most - self.bytes.len())];
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            let capacity = needed.next_power_of_two().min(most);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        self.bytes.len() == most
    }

    fn complete(self, mut head: Parts) -> Request<Body> {
        mark_too_large(&mut head, &self.bytes);
        let body = if self.bytes.is_empty() {
            Body::empty()
        } else {
            Body::new(Full::new(Bytes::from(self.bytes)))
        };
        Request::from_parts(head, body)
    }
}

/// Marks the request if one of its messages declares too many bytes. A message that is compressed
/// or has an unknown flag is left to the decoder, which refuses it for that reason.
fn mark_too_large(head: &mut Parts, mut body: &[u8]) {
    while let [0, a, b, c, d, ref rest @ ..] = *body {
        let len = u32::from_be_bytes([a, b, c, d]);
        if len as usize > MAX_MESSAGE_LEN {
            head.extensions.insert(TooLarge { len });
            return;
        }
        body = rest.get(len as usize..).unwrap_or_default();
    }
}

/// Returns the memory of a header list, in bytes: its table and the texts in it. The size by which
/// HTTP/2 limits the list is no measure of that, because many small headers fill a large table.
fn memory_of(headers: &HeaderMap) -> usize {
    let texts = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let repeated = headers.len() - headers.keys_len();
    headers.capacity() * TABLE_ENTRY + repeated * TABLE_ENTRY + headers.iter().map(texts).sum::<usize>()
}

/// Returns the error for a call that has to make room for others.
pub(super) fn stalled() -> ErrorReply {
    ErrorReply::new(
        Code::ResourceExhausted,
        ErrorReason::Overloaded,
        "the server holds too many unfinished messages, and this one did not arrive in time; try again in a moment",
    )
    .with_retry_about(Duration::from_secs(1))
}
