//! What game-service does. A use case is one method of [`Games`], [`History`] or [`Leaderboard`], and at most one transaction.

mod error;
mod finish;
mod game;
mod history;
mod leaderboard;
mod play;
mod row;
mod view;

pub(crate) use self::{
    error::Error,
    game::{End, Game, Opponent, State},
    history::History,
    leaderboard::{Leaderboard, RankedPlayer},
    play::{Games, Player},
    view::GameView,
};
