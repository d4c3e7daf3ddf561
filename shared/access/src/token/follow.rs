//! Background task that keeps a [`KeySet`] in step with its source.

use std::time::Duration;

use base::backoff::Backoff;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{KeySet, KeySource};

/// Back-off after the first of several failures in a row. It grows with each failure, up to the
/// refresh interval.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest back-off while there are no keys at all. Until then no token can be verified.
const LONGEST_PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(5);

/// Shortest time between two early reloads, each of which a token with an unknown `kid` triggers.
/// Anyone can send such a token.
const BETWEEN_EARLY_RELOADS: Duration = Duration::from_secs(30);

impl KeySource {
    /// Fills the set and keeps it up to date until `cancel` is called.
    ///
    /// Retries until the first keys are loaded, and then reloads every `refresh`, give or take a
    /// tenth. A failure leaves the current keys in place and is retried sooner. A token with an
    /// unknown `kid` brings the next load forward, at most once in 30 s.
    pub async fn follow(self, keys: KeySet, refresh: Duration, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.keep_fresh(&keys, refresh)).await;
    }

    async fn keep_fresh(self, keys: &KeySet, refresh: Duration) {
        let mut unknown_kids = keys.unknown_kids();
        let mut early_from = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, refresh);
        // The keys of a file may have been loaded already.
        let mut next = Instant::now()
            + if keys.is_empty() {
                Duration::ZERO
            } else {
                with_jitter(refresh)
            };
        loop {
            let unknown_kid = async {
                // While loads fail, they are retried anyway.
                if backoff.failures() > 0 || unknown_kids.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                sleep_until(early_from).await;
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = unknown_kid => {
                    tracing::info!("a token was signed with an unknown key; reloading the keys");
                    early_from = Instant::now() + BETWEEN_EARLY_RELOADS;
                }
            }
            // This load answers every request for a reload so far.
            unknown_kids.mark_unchanged();
            let wait = match self.load().await {
                Ok(loaded) => {
                    backoff.reset();
                    keys.replace(loaded);
                    with_jitter(refresh)
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    let failures = backoff.failures();
                    tracing::warn!(%error, failures, "cannot load the verification keys; trying again");
                    if keys.is_empty() {
                        pause.min(LONGEST_PAUSE_WITHOUT_KEYS)
                    } else {
                        pause
                    }
                }
            };
            next = Instant::now() + wait;
        }
    }
}

/// Returns `wait`, give or take up to a tenth. The jitter spreads the requests of replicas that
/// were started together.
fn with_jitter(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.9..1.1))
}
