//! Calls as a misbehaving client makes them: arbitrary bytes in arbitrary frames, over plain
//! HTTP/2.

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::listen::Listener;

/// Binds a socket on a free port of the loopback interface.
pub async fn listener() -> Listener {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listener::bind(any, "a test").await.expect("a free port")
}

/// Returns a channel to a server on this machine. It connects on first use.
pub fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .expect("a URI")
        .connect_lazy()
}

/// Creates a request with a bearer token.
pub fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Returns a new request id, which lets a request be sent more than once.
pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// Returns the `ErrorInfo.reason` of an error, or an empty text if it has none.
pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// Returns the delay before a retry that the error suggests.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

/// Returns the bad fields that an error names.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
    let violations = violations.unwrap_or_default().into_iter();
    violations.map(|violation| violation.field).collect()
}

/// An HTTP/2 connection without a gRPC client on top.
#[derive(Clone, Debug)]
pub struct RawConnection(SendRequest<Bytes>);

/// Answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub http_status: u16,
    /// gRPC status, from the headers or the trailers.
    pub status: Status,
    /// Headers.
    pub headers: HeaderMap,
}

impl Answer {
    /// Returns the gRPC code and `ErrorInfo.reason`.
    pub fn code_and_reason(&self) -> (Code, String) {
        (self.status.code(), reason(&self.status))
    }
}

impl RawConnection {
    /// Connects to a server on this machine.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("connect");
        let (send, connection) = h2::client::handshake(socket).await.expect("an HTTP/2 server");
        tokio::spawn(connection);
        Self(send)
    }

    /// Sends the headers of a call and nothing else. The call stays open until the returned stream
    /// is dropped.
    pub async fn leave_open(&self, path: &str) -> h2::SendStream<Bytes> {
        let request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
        let mut send = self.0.clone().ready().await.expect("a connection");
        let request = request.body(()).expect("a request");
        send.send_request(request, false).expect("a stream").1
    }

    /// Begins a call, sends these bytes and leaves the call open. Returns the future of an answer
    /// that may come nevertheless, and the stream that keeps the call open.
    pub async fn begin_and_stall(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        sent: Vec<u8>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.0.clone().ready().await.expect("a connection");
        let request = request.body(()).expect("a request");
        let (response, mut stream) = send.send_request(request, false).expect("a stream");
        stream.send_data(sent.into(), false).expect("sent");
        (response, stream)
    }

    /// Calls an RPC with this body, and reads only the headers of the answer, since a server stream
    /// may never end. Returns `OK` and an empty reason if the headers contain no status, so that
    /// more follows.
    pub async fn begin(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (Code, String) {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.0.clone().ready().await.expect("a connection");
        let request = request.body(()).expect("a request");
        let (response, mut stream) = send.send_request(request, false).expect("a stream");
        let _ = stream.send_data(body.into(), true);
        let response = response.await.expect("an answer");
        match Status::from_header_map(response.headers()) {
            Some(status) => (status.code(), reason(&status)),
            None => (Code::Ok, String::new()),
        }
    }

    /// Calls an RPC with this body, and reads the whole answer.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Answer, h2::Error> {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.0.clone().ready().await?;
        let (response, mut stream) = send.send_request(request.body(()).expect("a request"), false)?;
        // Fails if the server has answered and closed the stream before it has read everything.
        let _ = stream.send_data(body.into(), true);
        let response = response.await?;
        let http_status = response.status().as_u16();
        let (head, mut body) = response.into_parts();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            let _ = body.flow_control().release_capacity(chunk.len());
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
        Ok(Answer {
            http_status,
            status: status.unwrap_or_else(|| Status::unknown("no grpc-status")),
            headers: head.headers,
        })
    }
}

/// Returns the gRPC frame of a message: a flag for "uncompressed", its length, and the message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    frame_declaring(false, message.len(), message)
}

/// Returns a gRPC frame whose flag and length need not be true.
pub fn frame_declaring(compressed: bool, len: usize, message: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(u8::from(compressed));
    frame.put_u32(u32::try_from(len).expect("a length of 32 bits"));
    frame.put_slice(message);
    frame.to_vec()
}
