//! Progress of a connection, and the decision when it has to end.

use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use tokio::time::{Duration, Instant};

/// How long a client may take for each step of opening a connection: the TLS handshake, the
/// HTTP/2 preface, the headers of an HTTP/1 request.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may leave the data in its socket unread, so that the socket takes no more.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that was asked to go may keep its connection without a call: normally, and
/// while the server is stopping.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time between two checks of a connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// State of one connection, shared by its socket, its calls and the task that ends it.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    is_open: AtomicBool,
    calls: AtomicUsize,
    /// Times since which there has been no call, the current request head has been arriving, and
    /// the socket has taken nothing. Each is in milliseconds after the start, plus one; zero means
    /// that it does not apply.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
}

/// Call in flight on a connection, including its response. Dropping this ends the call.
#[derive(Debug)]
pub(super) struct OpenCall(std::sync::Arc<Activity>);

/// Request to a client to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaveRequest {
    at: Instant,
    patience: Duration,
}

/// Decision about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection may continue. Check it again after this time.
    CheckAfter(Duration),
    /// Ask the client to go (GOAWAY, or `connection: close`).
    AskToLeave,
    /// Close the connection now, for this reason.
    Close(&'static str),
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_open: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
        }
    }

    /// Records that the connection is set up. From now on, it may wait for calls.
    pub(super) fn open(&self) {
        self.is_open.store(true, Relaxed);
        self.idle_since.store(self.mark(), Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Records that bytes of a request have arrived. Only for HTTP/1, which has one request at a
    /// time.
    pub(super) fn head_arrives(&self) {
        if self.calls.load(Relaxed) == 0 {
            let _ = self.head_since.compare_exchange(0, self.mark(), Relaxed, Relaxed);
        }
    }

    /// Records that the socket has taken bytes.
    pub(super) fn written(&self) {
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// Records that the socket takes no bytes.
    pub(super) fn write_blocked(&self) {
        let _ = self.blocked_since.compare_exchange(0, self.mark(), Relaxed, Relaxed);
    }

    /// Records that a call has begun. The call ends when the result is dropped.
    pub(super) fn call(self: &std::sync::Arc<Self>) -> OpenCall {
        self.is_open.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
        self.calls.fetch_add(1, Relaxed);
        OpenCall(std::sync::Arc::clone(self))
    }

    /// Decides what to do with the connection. `idle` is the longest time without a call.
    pub(super) fn verdict(&self, idle: Duration, asked: Option<LeaveRequest>) -> Verdict {
        let since = |mark: &AtomicU64| match mark.load(Relaxed) {
            0 => None,
            mark => Some(Duration::from_millis(self.mark().saturating_sub(mark))),
        };
        if !self.is_open() {
            return within(
                self.started.elapsed(),
                OPEN_TIMEOUT,
                Verdict::Close("it was not set up in time"),
            );
        }
        let mut next = CHECK_INTERVAL;
        if let Some(blocked) = since(&self.blocked_since) {
            match within(blocked, UNREAD_TIMEOUT, Verdict::Close("the client reads nothing")) {
                Verdict::CheckAfter(left) => next = next.min(left),
                verdict => return verdict,
            }
        }
        if let Some(arriving) = since(&self.head_since) {
            match within(
                arriving,
                OPEN_TIMEOUT,
                Verdict::Close("a request did not arrive in time"),
            ) {
                Verdict::CheckAfter(left) => next = next.min(left),
                verdict => return verdict,
            }
        }
        if self.calls.load(Acquire) > 0 {
            return Verdict::CheckAfter(next);
        }
        let idle_for = since(&self.idle_since).unwrap_or_default();
        let verdict = match asked {
            None => within(idle_for, idle, Verdict::AskToLeave),
            Some(asked) => within(
                asked.at.elapsed().min(idle_for),
                asked.patience,
                Verdict::Close("the client did not go"),
            ),
        };
        match verdict {
            Verdict::CheckAfter(left) => Verdict::CheckAfter(next.min(left)),
            verdict => verdict,
        }
    }

    /// Returns the current time in the form of the marks, which is never zero.
    fn mark(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).map_or(u64::MAX, |elapsed| elapsed.saturating_add(1))
    }
}

/// Returns `over` if `taken` has reached the limit, and otherwise how long to wait for that.
fn within(taken: Duration, limit: Duration, over: Verdict) -> Verdict {
    match limit.checked_sub(taken) {
        None | Some(Duration::ZERO) => over,
        Some(left) => Verdict::CheckAfter(left),
    }
}

impl LeaveRequest {
    /// Records that the client is asked now, and has this long to go.
    pub(super) fn to_leave_within(patience: Duration) -> Self {
        Self {
            at: Instant::now(),
            patience,
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        // Store the time first: a reader that sees no open call relies on it.
        self.0.idle_since.store(self.0.mark(), Relaxed);
        self.0.calls.fetch_sub(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const IDLE: Duration = Duration::from_secs(300);

    async fn after(activity: &Activity, seconds: u64) -> Verdict {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        activity.verdict(IDLE, None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_not_set_up_in_time_is_closed() {
        let activity = Activity::new();
        assert_eq!(after(&activity, 0).await, Verdict::CheckAfter(OPEN_TIMEOUT));
        assert!(matches!(after(&activity, 5).await, Verdict::Close(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_asked_to_leave() {
        let activity = Arc::new(Activity::new());
        activity.open();
        assert_eq!(after(&activity, 299).await, Verdict::CheckAfter(Duration::from_secs(1)));
        let call = activity.call();
        assert_eq!(after(&activity, 3600).await, Verdict::CheckAfter(CHECK_INTERVAL));
        drop(call);
        assert_eq!(after(&activity, 299).await, Verdict::CheckAfter(Duration::from_secs(1)));
        assert_eq!(after(&activity, 1).await, Verdict::AskToLeave);
        let asked = Some(LeaveRequest::to_leave_within(LEAVE_TIMEOUT));
        assert!(matches!(activity.verdict(IDLE, asked), Verdict::CheckAfter(_)));
        tokio::time::advance(LEAVE_TIMEOUT).await;
        assert!(matches!(activity.verdict(IDLE, asked), Verdict::Close(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_headers_and_unread_answers_end_the_connection() {
        let activity = Arc::new(Activity::new());
        drop(activity.call());
        activity.head_arrives();
        assert_eq!(after(&activity, 4).await, Verdict::CheckAfter(Duration::from_secs(1)));
        activity.head_arrives();
        assert!(matches!(after(&activity, 1).await, Verdict::Close(_)));
        // The request has arrived completely at last.
        let _call = activity.call();
        assert!(matches!(after(&activity, 0).await, Verdict::CheckAfter(_)));
        activity.write_blocked();
        assert!(matches!(after(&activity, 29).await, Verdict::CheckAfter(_)));
        activity.written();
        activity.write_blocked();
        assert!(matches!(after(&activity, 29).await, Verdict::CheckAfter(_)));
        activity.write_blocked();
        assert!(matches!(after(&activity, 1).await, Verdict::Close(_)));
    }
}
