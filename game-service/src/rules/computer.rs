//! The computer player: a minimax search of the whole game, which is small enough to search to its
//! end.
//!
//! The computer takes the fastest win or, if it is lost, the slowest loss. Of equally good cells it
//! takes the first. The largest search follows X's first move, with 8 empty cells, and takes under
//! a millisecond. The very first move is known without a search.

use super::{Board, Cell, Mark, Outcome};

/// Returns the best cell for the mark whose turn it is. `None` if the game is over.
pub fn best_move(board: &Board) -> Option<Cell> {
    let Outcome::Turn(mark) = board.outcome() else {
        return None;
    };
    if *board == Board::default() {
        // Every first move leads to a draw against good play. A corner leaves the opponent the most
        // ways to go wrong.
        return Cell::new(0);
    }
    let mut best: Option<(i32, Cell)> = None;
    for cell in board.empty_cells() {
        let value = -value(
            &board.with(cell, mark),
            mark.other(),
            -MAX,
            -best.map_or(-MAX, |(value, _)| value),
        );
        if best.is_none_or(|(best, _)| value > best) {
            best = Some((value, cell));
        }
    }
    best.map(|(_, cell)| cell)
}

/// More than the value of any position.
const MAX: i32 = 100;

/// Returns the value of the position for the mark that moves next, by negamax with alpha-beta
/// pruning. It is higher for a faster win, lower for a faster loss, and 0 for a draw.
fn value(board: &Board, mark: Mark, mut alpha: i32, beta: i32) -> i32 {
    let empty = i32::try_from(board.empty_cells().count()).unwrap_or(0);
    match board.outcome() {
        // Only the opponent, who has just moved, can have completed a line.
        Outcome::Won(_) => -1 - empty,
        Outcome::Draw => 0,
        Outcome::Turn(_) => {
            for cell in board.empty_cells() {
                alpha = alpha.max(-value(&board.with(cell, mark), mark.other(), -beta, -alpha));
                if alpha >= beta {
                    break;
                }
            }
            alpha
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// Evaluates a position by plain minimax without pruning, to check the computer against. The
    /// value says who wins with best play, and how soon.
    fn judge(board: &Board, seen: &mut HashMap<Board, i32>) -> i32 {
        if let Some(value) = seen.get(board) {
            return *value;
        }
        let empty = i32::try_from(board.empty_cells().count()).expect("nine cells");
        let value = match board.outcome() {
            // The player to move has lost: the opponent has just completed a line.
            Outcome::Won(_) => -1 - empty,
            Outcome::Draw => 0,
            Outcome::Turn(mark) => board
                .empty_cells()
                .map(|cell| -judge(&board.with(cell, mark), seen))
                .max()
                .expect("a cell is empty"),
        };
        seen.insert(*board, value);
        value
    }

    fn reachable(board: Board, seen: &mut HashSet<Board>) {
        if seen.insert(board)
            && let Outcome::Turn(mark) = board.outcome()
        {
            for cell in board.empty_cells() {
                reachable(board.with(cell, mark), seen);
            }
        }
    }

    #[test]
    fn in_every_reachable_position_the_computer_plays_a_best_move() {
        let mut positions = HashSet::new();
        reachable(Board::default(), &mut positions);
        assert_eq!(positions.len(), 5478);
        let mut judged = HashMap::new();
        for board in &positions {
            let Outcome::Turn(mark) = board.outcome() else {
                assert_eq!(best_move(board), None);
                continue;
            };
            let cell = best_move(board).expect("the game goes on");
            assert_eq!(board.get(cell), None);
            assert_eq!(
                -judge(&board.with(cell, mark), &mut judged),
                judge(board, &mut judged),
                "{board} {cell:?}"
            );
        }
    }

    #[test]
    fn the_computer_never_loses_from_either_side() {
        fn play(board: Board, computer: Mark) -> usize {
            match board.outcome() {
                Outcome::Won(winner) => {
                    assert_eq!(winner, computer, "{board}");
                    1
                }
                Outcome::Draw => 1,
                Outcome::Turn(mark) if mark == computer => {
                    play(board.with(best_move(&board).expect("its turn"), computer), computer)
                }
                Outcome::Turn(mark) => board
                    .empty_cells()
                    .map(|cell| play(board.with(cell, mark), computer))
                    .sum(),
            }
        }
        for computer in [Mark::X, Mark::O] {
            assert!(play(Board::default(), computer) > 50);
        }
    }
}
