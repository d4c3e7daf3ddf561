//! game-service as its clients see it, on both databases.

mod access;
mod contract;
mod ends;
mod history;
mod leaderboard;
mod names;
mod open_games;
mod overdue;
mod play;
mod races;
mod support;
mod watch;
