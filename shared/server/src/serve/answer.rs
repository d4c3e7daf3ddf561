//! Response bodies, which are sent in pieces, and dropped if their client does not read them.
//!
//! hyper polls a body for more only once the client has room for the previous piece. A body cannot
//! time itself out, because nothing polls it. The task of the call can. When the task gives up, its
//! stream is reset, and all memory that was kept for it is freed.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{
    task::futures::TaskLocalFuture,
    time::{Sleep, sleep},
};
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes},
};

use super::{
    activity::OpenCall,
    unread::{ClientUnreadBudget, Reservation},
};

/// How long a client may take to make room for the next piece.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Length of a piece, in bytes.
const PIECE_LEN: usize = 16 * 1024;
/// Length of a message's last piece, in bytes. hyper queues it and the trailers even if the client
/// has no room, and then considers the call done. The piece is small, so that little is kept for a
/// client that does not read.
pub(super) const LAST_PIECE_LEN: usize = 2 * 1024;

/// Counter of responses that were dropped because their client did not read them.
const UNREAD_ANSWERS: &str = "rpc_server_unread_answers_total";

tokio::task_local! {
    /// Progress of the response to the call that the current task serves.
    static ANSWER: Arc<Progress>;
}

/// Progress of a response.
#[derive(Debug, Default)]
struct Progress {
    /// Zero while the response waits for the service. Otherwise, a number that grows with each
    /// piece that is on its way to the client.
    piece: AtomicU32,
    /// Bytes of the current message that are still to be sent.
    rest: AtomicUsize,
}

/// Executor that spawns the calls of an HTTP/2 connection.
#[derive(Clone, Debug)]
pub(super) struct Calls(pub(super) ClientUnreadBudget);

impl<F> Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let progress = Arc::new(Progress::default());
        tokio::spawn(CallTask {
            call: ANSWER.scope(Arc::clone(&progress), call),
            progress,
            timer: None,
            unread: self.0.clone(),
            reservation: None,
        });
    }
}

pin_project! {
    /// Task of a call, which ends if the response stays unread for too long.
    struct CallTask<F> {
        #[pin]
        call: TaskLocalFuture<Arc<Progress>, F>,
        progress: Arc<Progress>,
        timer: Option<(u32, Pin<Box<Sleep>>)>,
        unread: ClientUnreadBudget,
        reservation: Option<Reservation>,
    }
}

impl<F: Future<Output = ()>> Future for CallTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.call.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let piece = this.progress.piece.load(Relaxed);
        if piece == 0 {
            *this.timer = None;
            *this.reservation = None;
            return Poll::Pending;
        }
        // A later message of a stream may be larger than the one for which room was reserved.
        let rest = this.progress.rest.load(Relaxed);
        let has_room = if let Some(reservation) = this.reservation.as_mut() {
            reservation.try_resize(rest)
        } else {
            *this.reservation = this.unread.take(rest);
            this.reservation.is_some()
        };
        if !has_room {
            metrics::counter!(UNREAD_ANSWERS).increment(1);
            tracing::debug!("dropped a response: too many responses are unread");
            return Poll::Ready(());
        }
        let timer = match this.timer {
            Some((timed, timer)) if *timed == piece => timer,
            timer => &mut timer.insert((piece, Box::pin(sleep(UNREAD_TIMEOUT)))).1,
        };
        ready!(timer.as_mut().poll(cx));
        metrics::counter!(UNREAD_ANSWERS).increment(1);
        tracing::debug!("dropped a response that its client does not read");
        Poll::Ready(())
    }
}

/// Body of a response.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    /// Rest of a message of which a part has been sent.
    rest: Bytes,
    progress: Option<Arc<Progress>>,
    _call: Option<OpenCall>,
}

impl ResponseBody {
    /// Creates a response with this body. The call counts as in flight until the response is
    /// dropped.
    pub(super) fn new(body: Body, call: Option<OpenCall>) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            progress: ANSWER.try_with(Arc::clone).ok(),
            _call: call,
        }
    }

    /// Describes the metrics of this module.
    pub(super) fn describe_metrics() {
        metrics::describe_counter!(
            UNREAD_ANSWERS,
            "Number of responses that were dropped because their client did not read them."
        );
        metrics::counter!(UNREAD_ANSWERS).increment(0);
    }

    fn next_piece(&mut self) -> Bytes {
        let len = match self.rest.len() {
            len if len > PIECE_LEN + LAST_PIECE_LEN => PIECE_LEN,
            len if len > LAST_PIECE_LEN => len - LAST_PIECE_LEN,
            len => len,
        };
        // Copy the piece: a slice would keep the whole message in memory for as long as the piece
        // is queued.
        Bytes::copy_from_slice(&self.rest.split_to(len))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.rest = data;
                        Poll::Ready(Some(Ok(Frame::data(this.next_piece()))))
                    }
                    Err(frame) => Poll::Ready(Some(Ok(frame))),
                },
                frame => frame,
            }
        } else {
            Poll::Ready(Some(Ok(Frame::data(this.next_piece()))))
        };
        if let Some(progress) = &this.progress {
            let piece = if frame.is_pending() {
                0
            } else {
                progress.piece.load(Relaxed).wrapping_add(1).max(1)
            };
            progress.rest.store(this.rest.len(), Relaxed);
            progress.piece.store(piece, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        if self.rest.is_empty() {
            hint
        } else {
            SizeHint::default()
        }
    }
}
