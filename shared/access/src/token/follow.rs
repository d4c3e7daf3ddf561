//! Keeps a [`KeySet`] as its source has it.

use std::time::Duration;

use base::backoff::Backoff;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{KeySet, KeySource};

/// The pause after the first failure in a row. Later ones grow up to the time between two
/// refreshes.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause while there are no keys at all, so that no token can be verified.
const LONGEST_PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(5);

/// The shortest time from one reload for a token's unknown `kid` to the next. Anybody can send such
/// a token.
const BETWEEN_EARLY_RELOADS: Duration = Duration::from_secs(30);

impl KeySource {
    /// Fills the set and keeps it fresh until `cancel` is called.
    ///
    /// It tries until the first keys are there, then again every `refresh`, give or take a tenth. A
    /// failure leaves the keys as they are and is retried sooner. A token with an unknown `kid`
    /// brings the next load forward, at most once in 30 s.
    pub async fn follow(self, keys: KeySet, refresh: Duration, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.keep_fresh(&keys, refresh)).await;
    }

    async fn keep_fresh(self, keys: &KeySet, refresh: Duration) {
        let mut unknown_kids = keys.unknown_kids();
        let mut early_from = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, refresh);
        // A file may have been loaded already.
        let mut next = Instant::now()
            + if keys.is_empty() {
                Duration::ZERO
            } else {
                around(refresh)
            };
        loop {
            let unknown_kid = async {
                // While loads fail they are repeated anyway.
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
            // Whatever was asked for so far is answered by this load.
            unknown_kids.mark_unchanged();
            let wait = match self.load().await {
                Ok(loaded) => {
                    backoff.reset();
                    keys.replace(loaded);
                    around(refresh)
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

/// Within a tenth of `wait`, so that replicas which started together do not ask together for ever.
fn around(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.9..1.1))
}
