//! Settings for guests.

use std::time::Duration;

use base::rate::RateRule;

/// Rules for guests.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Guests")]
pub struct GuestSettings {
    /// Whether guests can register, who have neither a password nor an e-mail address. They cannot
    /// if --registration-open is false. Existing guests can log in either way.
    #[arg(long, env = "GUESTS_OPEN", default_value_t = true, value_name = "BOOL")]
    #[arg(action = clap::ArgAction::Set)]
    pub guests_open: bool,
    /// Maximum number of registrations of guests from each IP address per minute [0 to 1000000]. 0
    /// means no limit.
    #[arg(long, env = "GUEST_RATE_PER_MINUTE", default_value_t = 5, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub guest_rate_per_minute: u32,
    /// Number of guests that an IP address can register at once [1 to 1000000].
    #[arg(long, env = "GUEST_BURST", default_value_t = 30, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub guest_burst: u32,
    /// Days after which a guest is deleted who has neither logged in nor used a refresh token, or 0
    /// to keep guests forever [0 to 3650]. Nothing is deleted within 15 minutes after a start or a
    /// jump of the clock.
    #[arg(long, env = "GUEST_IDLE_DAYS", default_value_t = 30, value_name = "DAYS")]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=3650))]
    pub guest_idle_days: u16,
}

impl GuestSettings {
    pub(crate) fn rate(&self) -> RateRule {
        RateRule {
            per_minute: self.guest_rate_per_minute,
            burst: self.guest_burst,
        }
    }

    /// Returns how long a guest may be idle, or `None` if guests are kept forever.
    pub(crate) fn max_idle(&self) -> Option<Duration> {
        (self.guest_idle_days > 0).then(|| Duration::from_hours(24 * u64::from(self.guest_idle_days)))
    }
}
