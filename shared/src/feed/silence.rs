//! What is done while the feed is silent.

use std::{convert::Infallible, time::Duration};

use metrics::Unit;
use tokio::time::{MissedTickBehavior, interval};

use super::AccessView;
use crate::{server::Running, telemetry};

const INTERVAL: Duration = Duration::from_millis(500);

/// Seconds since something was heard from the feed.
const SILENCE: &str = "access_feed_silence_seconds";
/// Number of the last event that this process goes by.
const POSITION: &str = "access_feed_position";
/// How often the feed fell silent for longer than the rule allows.
const SILENCES: &str = "access_feed_silences_total";

/// What a service does when it has not heard from the feed for some time, and so may not know of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceRule {
    /// The feed counts as silent after this time without a message.
    pub after: Duration,
    /// What becomes of RPCs that only read.
    pub reads: OnSilence,
    /// What becomes of all others.
    pub writes: OnSilence,
}

/// What becomes of an RPC while the feed is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnSilence {
    /// It goes on, by what was known last.
    Allow,
    /// It answers UNAVAILABLE.
    Refuse,
}

/// What is done while the access feed is silent.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access feed")]
pub struct SilenceSettings {
    /// Seconds without a word from auth-service after which logouts and changes of roles may be missed [1 to 3600].
    #[arg(
        long,
        env = "ACCESS_FEED_SILENCE_SECONDS",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub access_feed_silence_seconds: u32,
    /// What becomes of calls that only read while the feed is silent for longer than that; refused is UNAVAILABLE.
    #[arg(long, env = "ACCESS_FEED_SILENCE_READS", default_value = "allow")]
    pub access_feed_silence_reads: OnSilence,
    /// What becomes of all other calls that need a token.
    #[arg(long, env = "ACCESS_FEED_SILENCE_WRITES", default_value = "refuse")]
    pub access_feed_silence_writes: OnSilence,
}

impl SilenceSettings {
    /// The rule as set.
    pub fn rule(&self) -> SilenceRule {
        SilenceRule {
            after: Duration::from_secs(self.access_feed_silence_seconds.into()),
            reads: self.access_feed_silence_reads,
            writes: self.access_feed_silence_writes,
        }
    }
}

impl Default for SilenceRule {
    /// 5 seconds; reads go on and the rest is refused.
    fn default() -> Self {
        Self {
            after: Duration::from_secs(5),
            reads: OnSilence::Allow,
            writes: OnSilence::Refuse,
        }
    }
}

impl SilenceRule {
    /// Whether an RPC is refused after so long a silence.
    pub fn refuses(&self, silence: Duration, is_read: bool) -> bool {
        let rule = if is_read { self.reads } else { self.writes };
        rule == OnSilence::Refuse && silence > self.after
    }
}

/// Reports the silence of the feed until the stop token is cancelled: a gauge, and one warning each time that it lasts too long.
pub fn spawn(view: AccessView, running: &Running) {
    // Before anything is measured.
    telemetry::metrics::recorder();
    metrics::describe_gauge!(
        SILENCE,
        Unit::Seconds,
        "Time since something was heard from the access feed."
    );
    metrics::describe_gauge!(
        POSITION,
        "Number of the last event of the access feed that this process goes by."
    );
    metrics::describe_counter!(SILENCES, "How often the access feed fell silent for too long.");
    let stop = running.stop_token().clone();
    running.spawn("access feed silence", async move {
        stop.run_until_cancelled(report(view)).await;
        Ok::<_, Infallible>(())
    });
}

async fn report(view: AccessView) {
    // Before the first snapshot nothing is served at all.
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
                seconds = silence.as_secs(),
                reads = ?rule.reads,
                writes = ?rule.writes,
                "the access feed is silent: logouts and changes of roles are not heard of"
            );
        } else if was_silent && !is_silent {
            tracing::info!("the access feed is heard again");
        }
    }
}
