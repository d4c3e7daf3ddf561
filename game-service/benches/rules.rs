//! What a move takes: its legality and meaning, and the computer's answer.

use divan::{Bencher, black_box};
use game_service::rules::{Board, best_move};

fn main() {
    divan::main();
}

/// Early, in the middle, and over.
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
