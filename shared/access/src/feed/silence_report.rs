//! Reports on how long the feed has been silent.

use std::{convert::Infallible, time::Duration};

use base::{running::Running, telemetry};
use metrics::Unit;
use tokio::time::{MissedTickBehavior, interval};

use crate::view::AccessView;

const INTERVAL: Duration = Duration::from_millis(500);

/// Seconds since the last message of the feed.
const SILENCE: &str = "access_feed_silence_seconds";
/// Sequence number of the last event that this process has applied.
const POSITION: &str = "access_feed_position";
/// Counter of silences that lasted longer than the rule allows.
const SILENCES: &str = "access_feed_silences_total";

/// Reports the silence of the feed until the stop token is cancelled: as a gauge, and with one
/// warning each time that it lasts too long.
pub fn spawn(view: AccessView, running: &Running) {
    // Install the recorder before anything is measured.
    telemetry::metrics::recorder();
    metrics::describe_gauge!(
        SILENCE,
        Unit::Seconds,
        "Time in seconds since the last message of the access feed."
    );
    metrics::describe_gauge!(
        POSITION,
        "Sequence number of the last event of the access feed that this process has applied."
    );
    metrics::describe_counter!(
        SILENCES,
        "Number of times that the access feed was silent for longer than the settings allow."
    );
    let stop = running.stop_token().clone();
    running.spawn("access feed silence", async move {
        stop.run_until_cancelled(report(view)).await;
        Ok::<_, Infallible>(())
    });
}

async fn report(view: AccessView) {
    // Before the first snapshot, the service admits no call that needs a token.
    view.wait_until_loaded().await;
    let rule = view.silence_rule();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    metrics::counter!(SILENCES).increment(0);
    let mut is_silent = false;
    loop {
        ticks.tick().await;
        let silence = view.silence().unwrap_or_default();
        metrics::gauge!(SILENCE).set(silence.as_secs_f64());
        if let Some(position) = view.position() {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64, exact up to 2^53")]
            metrics::gauge!(POSITION).set(position.sequence as f64);
        }
        let was_silent = std::mem::replace(&mut is_silent, silence > rule.after);
        if is_silent && !was_silent {
            metrics::counter!(SILENCES).increment(1);
            tracing::warn!(
                silence_seconds = silence.as_secs(),
                reads = ?rule.reads,
                writes = ?rule.writes,
                "the access feed is silent, so logouts and role changes may go unnoticed"
            );
        } else if was_silent && !is_silent {
            tracing::info!("the access feed is no longer silent");
        }
    }
}
