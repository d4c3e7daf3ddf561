//! What is measured: one file a subject.

pub(crate) mod enumeration;
pub(crate) mod leaderboard;
pub(crate) mod login_storm;
pub(crate) mod refusal;
