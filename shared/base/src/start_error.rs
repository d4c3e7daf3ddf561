//! Why a program did not start, or did not end well.

use std::fmt;

/// Why a program did not start, or did not end well.
#[derive(Debug)]
pub enum StartError {
    /// A setting is wrong. Exit code 64.
    Setting(String),
    /// Anything else. Exit code 1.
    Failed(String),
    /// The database is out of reach, or takes no writes now. A service waits and tries again; a
    /// command ends with exit code 1.
    Outage(String),
    /// What a command answers by its exit code.
    Code(u8, String),
}

impl StartError {
    /// A setting is wrong.
    pub fn setting(error: impl fmt::Display) -> Self {
        Self::Setting(error.to_string())
    }

    /// Something else went wrong.
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
