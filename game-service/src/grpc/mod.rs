//! The RPCs: one file a service. Each parses its request, makes one call into the domain and
//! converts the answer.

mod convert;
mod error;
mod game;
mod history;
mod leaderboard;

pub(crate) use self::{game::GameRpc, history::HistoryRpc, leaderboard::LeaderboardRpc};
