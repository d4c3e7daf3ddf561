//! Cost of a move: judging the board, and the computer's reply.

use divan::{Bencher, black_box};
use game_service::rules::{Board, best_move};

fn main() {
    divan::main();
}

/// Boards early in a game, in the middle, and after its end.
const BOARDS: [&str; 3] = ["X...O....", "XO.XO....", "XXXOO...."];

#[divan::bench(args = BOARDS)]
fn outcome(bencher: Bencher<'_, '_>, board: &str) {
    let board: Board = board.parse().expect("a board");
    bencher.bench(|| black_box(board).outcome());
}

#[divan::bench(args = ["X........", "XO.......", "XOX.O...."])]
fn best_answer(bencher: Bencher<'_, '_>, board: &str) {
    let board: Board = board.parse().expect("a board");
    bencher.bench(|| best_move(&black_box(board)));
}
