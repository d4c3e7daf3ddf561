//! Threads that leave the processors to the rest of the process.
//!
//! The niceness was chosen by measurement. With 120 guessers at work, `cargo run --release -p bench
//! -- guessing` (SQLite) found that 89 of 100 correct logins succeeded within 3 s at niceness 19,
//! and 100 of 100 at niceness 10. The pauses achieve what no niceness can: see
//! [`LowPriorityThread`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Niceness of the threads that hash (0 to 19). By Linux's weights (110 to 1024), a thread gets a
/// tenth of a processor that the rest of the process wants as well, and all of an idle one. At
/// niceness 19 it got a hundredth, so that a flood of refused guesses delayed correct logins by
/// seconds. If Linux divides the processors by containers or sessions, this applies within the
/// service's own share.
pub(super) const NICENESS: i32 = 10;

/// First and longest pause of a thread that yields. Each pause is twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(3200));

/// Shortest job that shows whether others want the processor. A shorter one did no work, because
/// its caller had gone.
const SHORTEST_JOB: Duration = Duration::from_millis(1);

/// Handle to the current thread. Its creation lowers the priority of the thread for good.
///
/// The priority alone is not enough. If Linux divides the processors by containers or sessions, the
/// thread takes its time from the share of the calls beside it, and each call that wakes waits for
/// its turn. So a thread that yields pauses while others want its processor.
#[derive(Debug)]
pub(super) struct LowPriorityThread {
    yields: bool,
    last_pause: Duration,
}

impl LowPriorityThread {
    /// Lowers the priority of the current thread. If that is not allowed, the thread competes with
    /// the others.
    pub(super) fn enter(yields: bool) -> Self {
        let _ = rustix::process::nice(NICENESS);
        Self {
            yields,
            last_pause: Duration::ZERO,
        }
    }

    /// Runs a job, catches its panic if any, and pauses afterwards if others wanted the processor.
    pub(super) fn run(&mut self, job: impl FnOnce()) {
        let (start, before) = (Instant::now(), processor_time());
        // After a panic, the caller sees that there is no answer.
        let _ = catch_unwind(AssertUnwindSafe(job));
        if self.yields {
            let worked = processor_time().saturating_sub(before);
            thread::sleep(self.pause(start.elapsed(), worked));
        }
    }

    /// Returns the pause after a job that took the time `elapsed` and had a processor for `worked`
    /// of it. There is no pause if it had one for at least half of the time.
    fn pause(&mut self, elapsed: Duration, worked: Duration) -> Duration {
        let (first, longest) = PAUSES;
        self.last_pause = if elapsed < SHORTEST_JOB || elapsed <= 2 * worked {
            Duration::ZERO
        } else {
            (2 * self.last_pause).clamp(first, longest)
        };
        self.last_pause
    }
}

/// Returns the processor time that this thread has had so far.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_other_threads_want_the_processor() {
        let mut thread = LowPriorityThread {
            yields: true,
            last_pause: Duration::ZERO,
        };
        let mut after = |elapsed, worked| {
            let [elapsed, worked] = [elapsed, worked].map(Duration::from_micros);
            thread.pause(elapsed, worked).as_millis()
        };
        assert_eq!(after(30_000, 16_000), 0);
        let contended = [(); 7].map(|()| after(80_000, 16_000));
        assert_eq!(contended, [100, 200, 400, 800, 1600, 3200, 3200]);
        assert_eq!(after(17_000, 16_000), 0);
        assert_eq!(after(80_000, 16_000), 100);
        assert_eq!(after(900, 10), 0);
    }
}
