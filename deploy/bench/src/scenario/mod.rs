//! The scenarios that are measured.

pub(crate) mod connections;
pub(crate) mod creation;
pub(crate) mod enumeration;
pub(crate) mod feed;
pub(crate) mod footprint;
pub(crate) mod gateway;
pub(crate) mod guessing;
pub(crate) mod guests;
pub(crate) mod invalid;
pub(crate) mod leaderboard;
pub(crate) mod login;
pub(crate) mod login_storm;
pub(crate) mod moves;
pub(crate) mod nakama;
pub(crate) mod overload;
pub(crate) mod reads;
pub(crate) mod refusal;
pub(crate) mod rotation;
pub(crate) mod scale;
pub(crate) mod soak;
pub(crate) mod unfinished;
pub(crate) mod verification;

use crate::{engine::Engine, load::Time};

/// Database, durations and repetitions of a scenario.
pub(crate) struct Setup<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) time: Time,
    /// Number of connections, each with one call in flight.
    pub(crate) connections: usize,
    /// Number of rounds. In each, the service and the baseline are measured one after the other.
    pub(crate) rounds: usize,
}
