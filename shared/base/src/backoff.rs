//! Growing pauses between attempts to reach something that is expected to come back.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Exponential back-off with jitter and no maximum number of attempts. The pauses double from
/// `first` to `longest`.
///
/// Each pause is shortened at random by up to a half, so that clients that lost a server together
/// do not all return together.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
    failures: u32,
}

impl Backoff {
    /// Creates a back-off that has not seen a failure yet.
    pub fn new(first: Duration, longest: Duration) -> Self {
        // The builder's jitter lengthens a pause by up to 100 %, so half of each limit is passed
        // on.
        let builder = ExponentialBuilder::new()
            .with_min_delay(first / 2)
            .with_max_delay(longest / 2)
            .with_jitter()
            .without_max_times();
        Self {
            builder,
            pauses: builder.build(),
            failures: 0,
        }
    }

    /// Returns the number of consecutive failures.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and returns the time until the next attempt.
    #[expect(clippy::missing_panics_doc, reason = "a back-off without a maximum never ends")]
    pub fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pauses.next().expect("it has no last pause")
    }

    /// Counts a failure and sleeps until the next attempt.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// Returns to the first pause, after a success.
    pub fn reset(&mut self) {
        self.pauses = self.builder.build();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    #[test]
    fn pauses_double_up_to_a_limit_and_vary_by_half() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for nominal in [100, 200, 400, 800, 1600, 2000, 2000, 2000].map(Duration::from_millis) {
            let pause = backoff.next_pause();
            assert!(pause >= nominal / 2 && pause <= nominal, "{pause:?} of {nominal:?}");
        }
        assert_eq!(backoff.failures(), 8);
        backoff.reset();
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.next_pause() <= FIRST);
    }

    #[test]
    fn clients_that_fail_together_retry_at_different_times() {
        let pauses = || {
            let mut backoff = Backoff::new(FIRST, LONGEST);
            std::iter::repeat_with(|| backoff.next_pause())
                .take(8)
                .collect::<Vec<_>>()
        };
        assert_ne!(pauses(), pauses());
    }
}
