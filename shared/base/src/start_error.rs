//! Reasons why a program did not start, or did not end well.

use std::fmt;

/// Reason why a program did not start, or did not end well.
#[derive(Debug)]
pub enum StartError {
    /// A setting is wrong. Exit code 64.
    Setting(String),
    /// Anything else. Exit code 1.
    Failed(String),
    /// The database is unreachable or currently accepts no writes. A service waits and tries again;
    /// a command ends with exit code 1.
    Outage(String),
    /// A result that a command reports by its exit code.
    Code(u8, String),
}

impl StartError {
    /// Creates the error for a wrong setting.
    pub fn setting(error: impl fmt::Display) -> Self {
        Self::Setting(error.to_string())
    }

    /// Creates the error for anything else that went wrong.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(text) | Self::Failed(text) | Self::Outage(text) | Self::Code(_, text) => f.write_str(text),
        }
    }
}
