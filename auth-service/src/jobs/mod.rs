//! What auth-service does by itself, now and then.
//!
//! A job is one use case of the domain, called again and again. On several replicas each calls it, so it must be right where another
//! one has just done the same. To add one: a method in the domain, a field of [`Jobs`] and a line in [`Jobs::spawn`].

use std::{convert::Infallible, fmt::Display, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use shared::server::Running;

use crate::domain::{Attempts, AuditLog, FeedTail, KeyRing, Sessions};

/// Keys are looked after this often: read, and written where something is due.
const KEYS: Duration = Duration::from_secs(5);
/// What is long dead is deleted this often.
const PURGE: Duration = Duration::from_mins(10);

/// What the jobs work on.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    pub(crate) keys: KeyRing,
    pub(crate) feed: FeedTail,
    pub(crate) attempts: Attempts,
    pub(crate) audit_log: AuditLog,
    pub(crate) sessions: Sessions,
}

impl Jobs {
    /// Starts every job. They end with the service.
    pub(crate) fn spawn(self, running: &Running) {
        let keys = self.keys.clone();
        let follower = keys.clone();
        follow("signing keys in use", running, async move { follower.follow().await });
        every(KEYS, "signing keys", running, move || {
            let keys = keys.clone();
            async move { keys.tend().await }.boxed()
        });
        let feed = self.feed;
        every(PURGE, "access feed purge", running, move || {
            let feed = feed.clone();
            async move { feed.purge().await }.boxed()
        });
        let attempts = self.attempts;
        every(PURGE, "attempts purge", running, move || {
            let attempts = attempts.clone();
            async move { attempts.purge().await }.boxed()
        });
        let audit_log = self.audit_log;
        every(PURGE, "audit log purge", running, move || {
            let audit_log = audit_log.clone();
            async move { audit_log.purge().await }.boxed()
        });
        let sessions = self.sessions;
        every(PURGE, "session purge", running, move || {
            let sessions = sessions.clone();
            async move {
                sessions.end_expired().await?;
                sessions.purge().await.map(drop)
            }
            .boxed()
        });
    }
}

/// Runs a task that has no end of its own.
pub(crate) fn follow(name: &'static str, running: &Running, task: impl Future<Output = ()> + Send + 'static) {
    let stop = running.stop_token().clone();
    running.spawn(name, async move {
        stop.run_until_cancelled(task).await;
        Ok::<_, Infallible>(())
    });
}

/// Calls `job` at once and then every `interval`, give or take a tenth: replicas that started together shall not work together for
/// ever. What fails is tried again the next time.
fn every<E: Display + Send + 'static>(
    interval: Duration,
    name: &'static str,
    running: &Running,
    job: impl Fn() -> BoxFuture<'static, Result<(), E>> + Send + 'static,
) {
    follow(name, running, async move {
        loop {
            if let Err(error) = job().await {
                tracing::warn!(job = name, %error, "failed; trying again later");
            }
            tokio::time::sleep(interval.mul_f64(rand::random_range(0.9..1.1))).await;
        }
    });
}
