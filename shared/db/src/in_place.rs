//! Execution of SQLite statements, on the thread that calls them.
//!
//! Handing each statement to a blocking thread would cost two thread switches: one to start it, and
//! one to return. Statements that may read a lot, or that write to a slow disk, are
//! [announced](waiting) to the runtime instead. The runtime then starts another thread in place of
//! this one.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::{Mutex, MutexGuard};
use pin_project_lite::pin_project;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Runs statements on the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct InPlace;

impl SpawnBlocking for InPlace {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        async move { Ok(task()) }.boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// Reason why a statement may block its thread.
#[derive(Clone, Debug)]
pub(super) enum Wait {
    /// None: the statement finds what it needs in memory.
    Never,
    /// The statement may take long.
    Long,
    /// The statement writes to this disk, and ends once the data is stored.
    Disk(Arc<Disk>),
}

pin_project! {
    /// Future of a statement that may wait.
    pub(super) struct Waiting<F> {
        #[pin]
        statement: F,
        wait: Wait,
    }
}

impl<F> Waiting<F> {
    pub(super) const fn new(statement: F, wait: Wait) -> Self {
        Self { statement, wait }
    }
}

impl<F: Future> Future for Waiting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.wait {
            Wait::Never => this.statement.poll(cx),
            Wait::Long => waiting(|| this.statement.poll(cx)),
            Wait::Disk(disk) => disk.write(|| this.statement.poll(cx)),
        }
    }
}

/// Observed speed of a disk's writes.
///
/// Replacing a waiting thread takes two thread switches, and the turn to write is held during both.
/// While every core is busy, each switch also waits for a core. Writes to a quick disk therefore
/// block the thread, provided that the runtime has other worker threads. The price is the work that
/// the core could have done meanwhile.
#[derive(Debug, Default)]
pub(super) struct Disk(Mutex<Pace>);

#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Whether the last complete batch of [`WRITES_PER_BATCH`] writes was quick.
    is_quick: bool,
    writes: u32,
    quick_writes: u32,
}

/// Number of writes that are judged together.
const WRITES_PER_BATCH: u32 = 16;

/// Quick writes in a batch that prove the disk quick. Slower writes may have waited for a core; a
/// few quick ones may have had nothing to write.
const MIN_QUICK_WRITES: u32 = 4;

/// Longest time that a quick disk may block a thread of the runtime.
const QUICK_WRITE: Duration = Duration::from_millis(1);

impl Disk {
    fn write<R>(&self, write: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let result = if self.is_quick() { write() } else { waiting(write) };
        self.record(begin.elapsed());
        result
    }

    /// Returns whether writes may block the calling thread.
    pub(super) fn is_quick(&self) -> bool {
        self.pace().is_quick && Handle::current().metrics().num_workers() > 1
    }

    fn record(&self, time: Duration) {
        let mut pace = self.pace();
        pace.writes += 1;
        pace.quick_writes += u32::from(time <= QUICK_WRITE);
        if pace.writes == WRITES_PER_BATCH {
            *pace = Pace {
                is_quick: pace.quick_writes >= MIN_QUICK_WRITES,
                ..Pace::default()
            };
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // A panic cannot leave the value half updated, so nothing has to be repaired.
        self.0.lock()
    }
}

/// Runs a task that may take long, and lets the runtime replace this thread meanwhile.
pub(super) fn waiting<R>(task: impl FnOnce() -> R) -> R {
    // A single-threaded runtime has no other thread that could take over.
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return task();
    }
    block_in_place(task)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    /// Time limit that only a failing test reaches.
    const LONG: Duration = Duration::from_secs(10);

    fn disk(times: [Duration; 2], [quick, slow]: [u32; 2]) -> Arc<Disk> {
        let disk = Arc::<Disk>::default();
        (0..quick).for_each(|_| disk.record(times[0]));
        (0..slow).for_each(|_| disk.record(times[1]));
        disk
    }

    /// Returns whether another task runs while this many tasks wait for the disk.
    async fn others_go_on(disk: &Arc<Disk>, waiting: usize) -> bool {
        let begun = Arc::<AtomicUsize>::default();
        let (mut senders, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..waiting {
            let (sender, receiver) = mpsc::channel::<()>();
            let (disk, begun) = (Arc::clone(disk), Arc::clone(&begun));
            senders.push(sender);
            waits.push(tokio::spawn(async move {
                disk.write(|| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    receiver.recv_timeout(LONG).is_ok()
                })
            }));
        }
        let other = tokio::spawn(async move {
            while begun.load(Ordering::SeqCst) < waiting {
                tokio::task::yield_now().await;
            }
            for sender in senders {
                let _ = sender.send(());
            }
        });
        let mut all = true;
        for wait in waits {
            all &= wait.await.expect("no panic");
        }
        other.await.expect("no panic");
        all
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_disk_is_quick_by_a_quarter_of_its_last_writes() {
        let times = [QUICK_WRITE, 50 * QUICK_WRITE];
        assert!(
            !disk(times, [WRITES_PER_BATCH - 1, 0]).is_quick(),
            "not enough is known of it"
        );
        assert!(disk(times, [WRITES_PER_BATCH, 0]).is_quick());
        assert!(
            disk(times, [MIN_QUICK_WRITES, WRITES_PER_BATCH - MIN_QUICK_WRITES]).is_quick(),
            "slow writes may have waited for a core"
        );
        assert!(
            !disk(times, [MIN_QUICK_WRITES - 1, WRITES_PER_BATCH - MIN_QUICK_WRITES + 1]).is_quick(),
            "a few quick writes may have been empty"
        );
        assert!(!disk(times, [WRITES_PER_BATCH, WRITES_PER_BATCH]).is_quick());
        assert!(disk([50 * QUICK_WRITE, QUICK_WRITE], [WRITES_PER_BATCH, WRITES_PER_BATCH]).is_quick());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_disk_holds_no_thread() {
        let slow = disk([2 * QUICK_WRITE; 2], [WRITES_PER_BATCH, 0]);
        assert!(others_go_on(&slow, 2).await);
        let quick = disk([QUICK_WRITE; 2], [WRITES_PER_BATCH, 0]);
        assert!(others_go_on(&quick, 1).await, "on the other thread");
        (0..WRITES_PER_BATCH).for_each(|_| quick.write(|| std::thread::sleep(2 * QUICK_WRITE)));
        assert!(!quick.is_quick(), "what is written is timed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn no_disk_holds_the_only_thread() {
        assert!(others_go_on(&disk([QUICK_WRITE; 2], [WRITES_PER_BATCH, 0]), 1).await);
    }
}
