//! game-service as its clients see it, on both databases.

mod access;
mod contract;
mod ends;
mod history;
mod leaderboard;
mod open_games;
mod play;
mod races;
mod support;
