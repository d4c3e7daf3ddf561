//! Refusals of callers who are not signed in.
//!
//! A call about a user who exists and a call about nobody run the same statements. But a row that
//! is found takes some microseconds longer than none, and a patient caller could see that in the
//! times of many calls. Where no password hash covers such a difference, a refusal leaves only at a
//! multiple of [`STEP`] after the call began. Two refusals whose work differs by microseconds leave
//! at the same step, except the few that end just before and just after one. This holds under load
//! as well, when the work takes longer than a step.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::domain::error::Error;

/// Step at whose multiples refusals leave. It is long compared with what differs, and short for
/// people.
const STEP: Duration = Duration::from_millis(10);

/// Makes a call, and delays its refusal until the next step. An answer is returned at once.
pub(in crate::domain) async fn refused_in_steps<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let start = Instant::now();
    let answer = call.await;
    if answer.is_err() {
        sleep_until(start + next_step(start.elapsed())).await;
    }
    answer
}

/// Returns the time of the first step after `elapsed`.
fn next_step(elapsed: Duration) -> Duration {
    let steps = elapsed.as_nanos() / STEP.as_nanos() + 1;
    STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_leave_at_steps_and_answers_at_once() {
        for (work, left) in [(0, 10), (9, 10), (10, 20), (11, 20), (95, 100)] {
            let start = Instant::now();
            let work = async {
                tokio::time::sleep(Duration::from_millis(work)).await;
                Err::<(), _>(Error::CredentialsInvalid)
            };
            refused_in_steps(work).await.expect_err("refused");
            assert_eq!(start.elapsed(), Duration::from_millis(left));
        }
        let start = Instant::now();
        refused_in_steps(async { Ok(()) }).await.expect("an answer");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
