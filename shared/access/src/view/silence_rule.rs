//! Rule for calls while the feed is silent.

use std::time::Duration;

/// Behaviour while the access feed is silent, so that a logout may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceRule {
    /// Time without a message after which the feed counts as silent.
    pub after: Duration,
    /// Behaviour of RPCs that only read.
    pub reads: OnSilence,
    /// Behaviour of all other RPCs.
    pub writes: OnSilence,
}

/// Behaviour of an RPC while the feed is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnSilence {
    /// The RPC is served, based on the last known state.
    Allow,
    /// The RPC fails with UNAVAILABLE.
    Refuse,
}

/// Behaviour while the access feed is silent.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access feed")]
pub struct SilenceSettings {
    /// Seconds without a message from auth-service after which the access feed counts as silent [1
    /// to 3600]. Logouts and role changes may then go unnoticed.
    #[arg(
        long,
        env = "ACCESS_FEED_SILENCE_SECONDS",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub access_feed_silence_seconds: u32,
    /// Action on read-only calls while the access feed is silent: allow them, or refuse them with
    /// UNAVAILABLE.
    #[arg(
        long,
        env = "ACCESS_FEED_SILENCE_READS",
        default_value = "allow",
        value_name = "ACTION"
    )]
    pub access_feed_silence_reads: OnSilence,
    /// Action on all other calls that need a token while the access feed is silent: allow them, or
    /// refuse them with UNAVAILABLE.
    #[arg(
        long,
        env = "ACCESS_FEED_SILENCE_WRITES",
        default_value = "refuse",
        value_name = "ACTION"
    )]
    pub access_feed_silence_writes: OnSilence,
}

impl SilenceSettings {
    /// Returns the configured rule.
    pub fn rule(&self) -> SilenceRule {
        SilenceRule {
            after: Duration::from_secs(self.access_feed_silence_seconds.into()),
            reads: self.access_feed_silence_reads,
            writes: self.access_feed_silence_writes,
        }
    }
}

impl Default for SilenceRule {
    /// Returns the default rule: the feed counts as silent after 5 seconds; reads are then served,
    /// and all other calls are refused.
    fn default() -> Self {
        Self {
            after: Duration::from_secs(5),
            reads: OnSilence::Allow,
            writes: OnSilence::Refuse,
        }
    }
}

impl SilenceRule {
    /// Returns whether an RPC is refused after a silence of this length.
    pub fn refuses(&self, silence: Duration, is_read: bool) -> bool {
        let rule = if is_read { self.reads } else { self.writes };
        rule == OnSilence::Refuse && silence > self.after
    }
}
