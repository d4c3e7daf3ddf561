//! Settings that limit how often passwords can be guessed.

use std::time::Duration;

use base::rate::RateRule;

use crate::domain::AttemptRules;

/// Limits on attempts for each address, account and device.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Attempts")]
pub struct AttemptSettings {
    /// Maximum number of logins, password confirmations and service token requests from each IP
    /// address per minute, successful or not [0 to 1000000]. 0 means no limit.
    #[arg(long, env = "LOGIN_RATE_PER_MINUTE", default_value_t = 60, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub login_rate_per_minute: u32,
    /// Number of logins, password confirmations and service token requests that an IP address can
    /// make at once [1 to 1000000].
    #[arg(long, env = "LOGIN_BURST", default_value_t = 120, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub login_burst: u32,
    /// Maximum number of registrations from each IP address per minute [0 to 1000000]. 0 means no
    /// limit.
    #[arg(long, env = "REGISTRATION_RATE_PER_MINUTE", default_value_t = 20, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub registration_rate_per_minute: u32,
    /// Number of registrations that an IP address can make at once [1 to 1000000].
    #[arg(long, env = "REGISTRATION_BURST", default_value_t = 60, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub registration_burst: u32,
    /// Wrong passwords for an account, or from a known device, before the next attempt must wait: 1
    /// second at first, then 2, 4 and so on [1 to 1000000].
    #[arg(long, env = "LOGIN_FREE_ATTEMPTS", default_value_t = 10, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub login_free_attempts: u32,
    /// Maximum wait after wrong passwords for an account or from a device, in seconds [1 to 86400].
    #[arg(long, env = "LOGIN_MAX_DELAY_SECONDS", default_value_t = 900, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub login_max_delay_seconds: u32,
    /// Wrong passwords from an IP address, for any accounts, before the next attempt must wait, up
    /// to one minute [1 to 1000000].
    #[arg(long, env = "LOGIN_ADDRESS_FREE_ATTEMPTS", default_value_t = 100, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub login_address_free_attempts: u32,
}

impl AttemptSettings {
    /// Returns the limits. `guests` is among the settings for guests.
    pub(crate) fn rules(&self, guests: RateRule) -> AttemptRules {
        AttemptRules {
            logins: RateRule {
                per_minute: self.login_rate_per_minute,
                burst: self.login_burst,
            },
            registrations: RateRule {
                per_minute: self.registration_rate_per_minute,
                burst: self.registration_burst,
            },
            guests,
            free_failures: self.login_free_attempts.into(),
            max_delay: Duration::from_secs(self.login_max_delay_seconds.into()),
            free_failures_of_address: self.login_address_free_attempts.into(),
        }
    }
}
