//! Authentication context classes: how many factors a login took.

use std::{fmt, str::FromStr};

/// Authentication context class (`acr`). A higher one satisfies every requirement of a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acr {
    /// One factor, such as a password.
    OneFactor,
    /// Two factors, such as a password and a one-time code.
    TwoFactors,
}

/// Error for a text that is no authentication context class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 or 2")]
pub struct UnknownAcr;

impl Acr {
    /// Returns the value of the claim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneFactor => "1",
            Self::TwoFactors => "2",
        }
    }
}

impl fmt::Display for Acr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Acr {
    type Err = UnknownAcr;

    fn from_str(text: &str) -> Result<Self, UnknownAcr> {
        match text {
            "1" => Ok(Self::OneFactor),
            "2" => Ok(Self::TwoFactors),
            _ => Err(UnknownAcr),
        }
    }
}
