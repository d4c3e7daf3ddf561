//! Where statements of SQLite run: on the thread that asks for them.
//!
//! On a thread for what blocks, each statement would wake that thread, and its end this one. What may read much, or writes to a disk that takes
//! its time, does so [announced](waiting): the runtime then gets another thread in the place of this one.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::future::{BoxFuture, FutureExt as _};
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
/// To put another thread in the place of one that waits takes two changes of threads, during which the turn to write is held; with every
/// processor busy each of them waits for one. A disk that answers sooner than that is waited for without.
#[derive(Debug)]
pub(super) struct Disk(Mutex<Pace>);

/// The quickest of the last writes: how long it took tells of the disk, where the others' also tell of how long they waited for a processor.
#[derive(Clone, Copy, Debug)]
struct Pace {
    quickest: Duration,
    quickest_now: Duration,
    writes_now: u32,
}

/// Writes of which the quickest counts.
const WRITES: u32 = 16;

/// A thread of the runtime may be held by a disk that is as quick as this.
const QUICK: Duration = Duration::from_millis(1);

impl Default for Disk {
    fn default() -> Self {
        Self(Mutex::new(Pace {
            quickest: Duration::MAX,
            quickest_now: Duration::MAX,
            writes_now: 0,
        }))
    }
}

impl Disk {
    fn write<R>(&self, write: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let result = if self.is_quick() { write() } else { waiting(write) };
        self.took(begin.elapsed());
        result
    }

    fn is_quick(&self) -> bool {
        self.pace(|pace| pace.quickest <= QUICK)
    }

    fn took(&self, time: Duration) {
        self.pace(|pace| {
            pace.quickest_now = pace.quickest_now.min(time);
            pace.writes_now += 1;
            if pace.writes_now == WRITES {
                *pace = Pace {
                    quickest: pace.quickest_now,
                    quickest_now: Duration::MAX,
                    writes_now: 0,
                };
            }
        });
    }

    fn pace<R>(&self, look: impl FnOnce(&mut Pace) -> R) -> R {
        // A duration is whole whatever panicked.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
    use super::*;

    fn take(disk: &Disk, time: Duration) {
        for _ in 0..WRITES {
            disk.took(time);
        }
    }

    #[test]
    fn a_disk_is_quick_by_its_quickest_writes() {
        let disk = Disk::default();
        assert!(!disk.is_quick(), "nothing is known of it");
        take(&disk, QUICK);
        assert!(disk.is_quick());
        // Those who wait for a processor say nothing of the disk.
        for _ in 1..WRITES {
            disk.took(50 * QUICK);
        }
        disk.took(QUICK);
        assert!(disk.is_quick());
        take(&disk, 2 * QUICK);
        assert!(!disk.is_quick());
        take(&disk, QUICK);
        assert!(disk.is_quick());
    }
}
