//! Reads the one message of a request before anything is done about it.

use std::{
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use ipnet::IpNet;
use tonic::{
    Code,
    body::Body,
    codegen::{Body as _, Bytes},
};

use super::{MAX_MESSAGE_LEN, deadline, peer::ClientAddress, unfinished::Unfinished};
use crate::{error::ErrorReply, proto::authz::v1::ErrorReason};

/// Flag and length of a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_LEN: usize = 5;
/// How long a message may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a header takes beside its name and value (RFC 9113, section 10.5.1).
const HEADER_OVERHEAD: usize = 32;
/// What an unfinished call takes beside its headers and its message.
const CALL_OVERHEAD: usize = 4 * 1024;

/// Bytes of a message that have arrived. Frames are copied into a buffer of the call's own: a frame
/// of one byte would otherwise keep the whole buffer that it was read into.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
}

/// The request with its message in memory. Of a message that is too large, only as much as the
/// decoder needs to see that.
///
/// # Errors
///
/// DEADLINE_EXCEEDED if it takes longer than `patience` or ten seconds, RESOURCE_EXHAUSTED if others
/// need the memory.
pub(super) async fn received(
    request: Request<Body>,
    unfinished: &Unfinished,
    patience: Duration,
) -> Result<Request<Body>, ErrorReply> {
    let (head, mut body) = request.into_parts();
    let mut received = Received::default();
    // Most messages are there with their headers, and take nothing from the budget.
    let is_complete = loop {
        match body.frame().now_or_never() {
            // A body that breaks off is as good as one that ends: the decoder says what is missing.
            Some(None | Some(Err(_))) => break true,
            Some(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if received.bytes.is_empty() && body.is_end_stream() {
                    return Ok(Request::from_parts(head, Body::new(Full::new(data))));
                }
                if received.take(&data) {
                    break true;
                }
            }
            None => break false,
        }
    };
    if !is_complete {
        // Boxed: what follows is rare, and would make every call larger.
        let rest = rest(
            &head.headers,
            address(&head.extensions),
            body,
            &mut received,
            unfinished,
        );
        Box::pin(tokio::time::timeout(patience.min(TIMEOUT), rest))
            .await
            .unwrap_or_else(|_elapsed| Err(deadline::exceeded()))?;
    }
    Ok(Request::from_parts(head, received.into_body()))
}

fn address(extensions: &Extensions) -> Option<IpNet> {
    extensions.get().and_then(ClientAddress::bucket)
}

/// Receives the rest of a message.
async fn rest(
    headers: &HeaderMap,
    address: Option<IpNet>,
    mut body: Body,
    received: &mut Received,
    unfinished: &Unfinished,
) -> Result<(), ErrorReply> {
    let fixed = CALL_OVERHEAD + len(headers);
    let mut claim = unfinished.claim(address, fixed + received.bytes.capacity());
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
            Ok(None | Some(Err(_))) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if received.take(&data) {
                    return Ok(());
                }
                claim.grow_to(fixed + received.bytes.capacity());
            }
        }
    }
}

impl Received {
    /// Adds a frame. True if the message is too large already.
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

    fn into_body(self) -> Body {
        if self.bytes.is_empty() {
            Body::empty()
        } else {
            Body::new(Full::new(Bytes::from(self.bytes)))
        }
    }
}

/// The length of a header list as HTTP/2 counts it.
fn len(headers: &HeaderMap) -> usize {
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + HEADER_OVERHEAD;
    headers.iter().map(of).sum()
}

fn stalled() -> ErrorReply {
    ErrorReply::new(
        Code::ResourceExhausted,
        ErrorReason::Overloaded,
        "the message of this call did not arrive in time to keep its place among too many; try again in a moment",
    )
    .with_retry_about(Duration::from_secs(1))
}
