//! Limits on exports, by user.

use base::{
    ids::UserId,
    rate::{KeyedLimit, RateRule},
};

use crate::domain::error::Error;

/// Limit of first pages, which cost most.
const EXPORTS: RateRule = RateRule {
    per_minute: 1,
    burst: 20,
};
/// Limit of further pages. A long export has some hundred.
const FURTHER_PAGES: RateRule = RateRule {
    per_minute: 60,
    burst: 600,
};

/// Limits on exports.
#[derive(Clone, Debug)]
pub(crate) struct ExportLimits {
    exports: KeyedLimit<UserId>,
    further_pages: KeyedLimit<UserId>,
}

impl Default for ExportLimits {
    fn default() -> Self {
        Self {
            exports: KeyedLimit::new(EXPORTS),
            further_pages: KeyedLimit::new(FURTHER_PAGES),
        }
    }
}

impl ExportLimits {
    /// Counts a page of the user's export, or refuses it if there were too many.
    pub(super) fn admit(&self, id: UserId, is_first: bool) -> Result<(), Error> {
        let limit = if is_first { &self.exports } else { &self.further_pages };
        limit.admit(&id).map_err(Error::TooManyAttempts)
    }
}
