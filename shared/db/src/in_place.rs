//! Where statements of SQLite run: on the thread that asks for them.
//!
//! On a thread for what blocks, each statement would wake that thread, and its end this one. What
//! may read much, or writes to a disk that takes its time, does so [announced](waiting): the
//! runtime then gets another thread in the place of this one.

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

/// Runs statements where they are called.
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

/// Where a statement waits.
#[derive(Clone, Debug)]
pub(super) enum Wait {
    /// Nowhere: it finds what it needs in memory.
    Nowhere,
    /// It may take long.
    Long,
    /// For this disk, which keeps what it wrote.
    Disk(Arc<Disk>),
}

pin_project! {
    /// A statement that may wait.
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
            Wait::Nowhere => this.statement.poll(cx),
            Wait::Long => waiting(|| this.statement.poll(cx)),
            Wait::Disk(disk) => disk.write(|| this.statement.poll(cx)),
        }
    }
}

/// How quickly a disk keeps what is written.
///
/// To put another thread in the place of one that waits takes two changes of threads, during which
/// the turn to write is held; with every processor busy each of them waits for one. So a disk that
/// answers soon is waited for without, where there are other threads that go on. Its price is what
/// the processor could have done meanwhile.
#[derive(Debug, Default)]
pub(super) struct Disk(Mutex<Pace>);

#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// By the last [`WRITES`] that are complete.
    is_quick: bool,
    writes: u32,
    quick_writes: u32,
}

/// Writes that are looked at together.
const WRITES: u32 = 16;

/// So many quick ones of them are enough to tell that the disk is: the others may have waited for a
/// processor. Fewer may have had nothing to write.
const ENOUGH: u32 = 4;

/// A thread of the runtime may be held by a disk for so long.
const QUICK: Duration = Duration::from_millis(1);

impl Disk {
    fn write<R>(&self, write: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let result = if self.is_quick() { write() } else { waiting(write) };
        self.took(begin.elapsed());
        result
    }

    /// Whether it is waited for on the thread that writes.
    pub(super) fn is_quick(&self) -> bool {
        self.pace().is_quick && Handle::current().metrics().num_workers() > 1
    }

    fn took(&self, time: Duration) {
        let mut pace = self.pace();
        pace.writes += 1;
        pace.quick_writes += u32::from(time <= QUICK);
        if pace.writes == WRITES {
            *pace = Pace {
                is_quick: pace.quick_writes >= ENOUGH,
                ..Pace::default()
            };
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // Whole whatever panicked.
        self.0.lock()
    }
}

/// Runs what may take long.
pub(super) fn waiting<R>(task: impl FnOnce() -> R) -> R {
    // A runtime of one thread has nothing that could take its place.
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

    /// Passed only where a test fails.
    const LONG: Duration = Duration::from_secs(10);

    fn disk(times: [Duration; 2], [quick, slow]: [u32; 2]) -> Arc<Disk> {
        let disk = Arc::<Disk>::default();
        (0..quick).for_each(|_| disk.took(times[0]));
        (0..slow).for_each(|_| disk.took(times[1]));
        disk
    }

    /// Whether another task runs while so many wait for the disk.
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
        let times = [QUICK, 50 * QUICK];
        assert!(!disk(times, [WRITES - 1, 0]).is_quick(), "not enough is known of it");
        assert!(disk(times, [WRITES, 0]).is_quick());
        assert!(
            disk(times, [ENOUGH, WRITES - ENOUGH]).is_quick(),
            "who waits for a processor says nothing of the disk"
        );
        assert!(
            !disk(times, [ENOUGH - 1, WRITES - ENOUGH + 1]).is_quick(),
            "nor who has nothing to write"
        );
        assert!(!disk(times, [WRITES, WRITES]).is_quick());
        assert!(disk([50 * QUICK, QUICK], [WRITES, WRITES]).is_quick());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_disk_holds_no_thread() {
        let slow = disk([2 * QUICK; 2], [WRITES, 0]);
        assert!(others_go_on(&slow, 2).await);
        let quick = disk([QUICK; 2], [WRITES, 0]);
        assert!(others_go_on(&quick, 1).await, "on the other thread");
        (0..WRITES).for_each(|_| quick.write(|| std::thread::sleep(2 * QUICK)));
        assert!(!quick.is_quick(), "what is written is timed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn no_disk_holds_the_only_thread() {
        assert!(others_go_on(&disk([QUICK; 2], [WRITES, 0]), 1).await);
    }
}
