//! The rule for calls while the feed is silent.

use std::time::Duration;

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
