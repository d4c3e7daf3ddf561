//! The RPCs, one file per service. Each RPC parses its request, makes one call into the domain and
//! converts the result.

mod convert;
mod error;
mod game;
mod history;
mod leaderboard;

pub(crate) use self::{game::GameRpc, history::HistoryRpc, leaderboard::LeaderboardRpc};
