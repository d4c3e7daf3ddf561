//! Reads the one message of a request before anything is done about it. No RPC of ours takes a stream of them.

use http::Request;
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;

use super::MAX_MESSAGE_LEN;

/// Flag and length of a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_LEN: usize = 5;

/// The request with its message in memory. Of one that is too large, only as much as it takes for the decoder to see that.
pub(super) async fn received(request: Request<Body>) -> Request<Body> {
    let (head, mut body) = request.into_parts();
    let mut frames = Vec::new();
    let mut len = 0;
    // A body that breaks off is as good as one that ends: the decoder says what is missing.
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            len += data.len();
            frames.push(data);
        }
        if len > PREFIX_LEN + MAX_MESSAGE_LEN {
            break;
        }
    }
    let body = match frames.len() {
        0 => Body::empty(),
        1 => Body::new(Full::new(frames.remove(0))),
        _ => Body::new(Full::from(frames.concat())),
    };
    Request::from_parts(head, body)
}
