//! The use cases of game-service. Each is one method of [`Games`], [`History`] or [`Leaderboard`],
//! and takes at most one transaction.

mod admission;
mod changes;
pub(crate) mod counts;
mod creation;
mod error;
mod game;
mod history;
mod leaderboard;
mod names;
mod older_results;
mod overdue;
mod play;
mod player;
mod recompute;
mod results;
mod row;
mod seed;
mod take_over;
mod view;
mod watch;
mod watchers;

pub(crate) use self::{
    error::Error,
    game::{End, Game, Opponent, State},
    history::{History, HistoryQuery},
    leaderboard::{Leaderboard, LeaderboardEntry, RequestedPlayer},
    names::Names,
    play::Games,
    player::{PlayRules, Player},
    recompute::{Drift, Progress, Recompute},
    results::GameResult,
    seed::Seed,
    view::GameView,
    watch::GameWatch,
};
