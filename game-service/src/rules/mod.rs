//! The rules of tic-tac-toe, and a computer player that never loses. Pure: no clock, no database,
//! no randomness.

mod board;
mod computer;

pub use self::{
    board::{Board, Cell, Mark, Outcome},
    computer::best_move,
};
