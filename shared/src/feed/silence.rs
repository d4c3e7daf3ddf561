//! What is done while the feed is silent.

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
