//! Serving of one connection, from its first byte to its last.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service as HyperService};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use ipnet::IpNet;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use super::{
    activity::{Activity, LEAVE_TIMEOUT, LeaveRequest, OpenCall, STOP_TIMEOUT, Verdict},
    answer::{Calls, LAST_PIECE_LEN, ResponseBody},
    guard::Guarded,
    protocol::Protocol,
    unread::UnreadBudget,
};

/// Largest number of calls in flight on one connection.
const MAX_STREAMS: u32 = 128;
/// Largest metadata of a call, in bytes.
const MAX_METADATA_LEN: u32 = 16 * 1024;
/// Bytes that a client may send ahead on a stream and on a connection. The server takes in at once
/// whatever arrives, so larger windows would not be faster.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Largest number of streams that a client may reset before they were accepted (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Largest number of streams that a client may make the server reset (CVE-2025-8671), over the life
/// of its connection. Streams beyond MAX_STREAMS that it opens before it has read our SETTINGS
/// count too.
const MAX_LOCAL_RESETS: usize = 1024;
/// Time of silence after which a keep-alive ping is sent.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Time without an answer to the ping after which the connection is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest size of the headers of an HTTP/1 request, in bytes.
const MAX_HEAD_LEN: usize = 32 * 1024;

/// Connection on which a request arrived. It is in the extensions of every request.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Id of the connection, unique in the process.
    pub(crate) id: u64,
    /// Address of the other end. `None` for a connection from within the process.
    pub(crate) peer: Option<SocketAddr>,
    /// Network of the client. `None` for a trusted proxy, which may serve many clients, and for a
    /// connection from within the process.
    pub(crate) client: Option<IpNet>,
}

/// Rules for all connections of a port.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) protocol: Protocol,
    /// Longest time without a call.
    pub(super) idle: Duration,
    /// Memory budget of unread responses.
    pub(super) unread: UnreadBudget,
    /// Cancelled when clients must be asked to go.
    pub(super) stop: CancellationToken,
    /// Cancelled when all connections must end at once.
    pub(super) kill: CancellationToken,
}

/// Serves requests on this socket until the client has gone or the rules end the connection.
pub(super) async fn serve<T, S>(socket: T, connection: Connection, service: S, rules: Rules)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let calls = Calls(rules.unread.of(connection.client));
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Guarded::new(socket, rules.protocol, Arc::clone(&activity)));
    let service = Requests {
        service,
        connection,
        activity: Arc::clone(&activity),
    };
    match rules.protocol {
        Protocol::Grpc => {
            let served = hyper::server::conn::http2::Builder::new(calls)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_METADATA_LEN)
                .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                .max_local_error_reset_streams(MAX_LOCAL_RESETS)
                // For a client that does not read, little more than the last piece of a response is
                // queued.
                .max_send_buf_size(LAST_PIECE_LEN)
                .keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .serve_connection(io, service);
            drive(pin!(served), &activity, &rules).await;
        }
        Protocol::Http => {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                // `Activity` has its own timeout, which does not close a connection that waits for
                // its next request.
                .header_read_timeout(None)
                // A client may close its side once it has sent its request.
                .half_close(true)
                .max_buf_size(MAX_HEAD_LEN)
                .serve_connection(io, service);
            drive(pin!(served), &activity, &rules).await;
        }
    }
}

/// Drives a connection to its end.
async fn drive<C>(mut served: Pin<&mut C>, activity: &Activity, rules: &Rules)
where
    C: GracefulConnection,
    C::Error: std::error::Error,
{
    // A connection is polled several times per call. Polling the tokens of the rules each time
    // would take locks that all connections share, so this stream polls them only when they wake
    // it.
    let mut commands = FuturesUnordered::new();
    commands.push(next_command(activity, rules, None));
    loop {
        let command = tokio::select! {
            biased;
            result = &mut served => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            Some(command) = commands.next() => command,
        };
        match command {
            Command::AskToLeave(asked) => {
                served.as_mut().graceful_shutdown();
                commands.push(next_command(activity, rules, Some(asked)));
            }
            Command::Close(why) => {
                tracing::debug!(why, "closing a connection");
                return;
            }
        }
    }
}

/// Step that the rules want a connection to take.
enum Command {
    AskToLeave(LeaveRequest),
    /// Close the connection now, for this reason.
    Close(&'static str),
}

/// Waits until the rules want something of a connection. `asked` says when the client was asked to
/// go.
async fn next_command(activity: &Activity, rules: &Rules, asked: Option<LeaveRequest>) -> Command {
    loop {
        let check_after = match activity.verdict(rules.idle, asked) {
            Verdict::CheckAfter(time) => time,
            Verdict::AskToLeave => return Command::AskToLeave(LeaveRequest::to_leave_within(LEAVE_TIMEOUT)),
            Verdict::Close(why) => return Command::Close(why),
        };
        tokio::select! {
            () = rules.stop.cancelled(), if asked.is_none() => {
                return Command::AskToLeave(LeaveRequest::to_leave_within(STOP_TIMEOUT));
            }
            () = rules.kill.cancelled() => return Command::Close("the server has stopped"),
            () = sleep(check_after) => {}
        }
    }
}

/// Service of one connection.
#[derive(Debug)]
struct Requests<S> {
    service: S,
    connection: Connection,
    activity: Arc<Activity>,
}

impl<S> HyperService<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let call = self.activity.call();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.connection.clone());
        // Call the service here rather than in the task of the call, so that whatever the call
        // occupies counts from now on. `poll_ready` is not needed: both services, the layers of the
        // RPCs and axum's router, are always ready.
        Answer {
            answer: self.service.clone().call(request),
            call: Some(call),
        }
    }
}

pin_project! {
    /// Response to a call, which counts as in flight until the response has been sent.
    struct Answer<F> {
        #[pin]
        answer: F,
        call: Option<OpenCall>,
    }
}

impl<F> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.answer.poll(cx));
        let call = this.call.take();
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, call))))
    }
}
