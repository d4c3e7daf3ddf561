//! The board: nine cells, two marks, eight lines.

use std::{fmt, str::FromStr};

/// Mark that a player puts on the board. X moves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Mark of the player who moves first.
    X,
    /// Mark of the player who moves second.
    O,
}

/// A cell, 0 to 8, row by row from the top left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell(u8);

/// Position: the content of each cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Board {
    cells: [Option<Mark>; 9],
}

/// Meaning of a position: whose turn it is, or how the game ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This mark moves next.
    Turn(Mark),
    /// This mark has a line.
    Won(Mark),
    /// Every cell is taken, and there is no line.
    Draw,
}

/// The lines: rows, columns and diagonals.
const LINES: [[usize; 3]; 8] = [
    [0, 1, 2],
    [3, 4, 5],
    [6, 7, 8],
    [0, 3, 6],
    [1, 4, 7],
    [2, 5, 8],
    [0, 4, 8],
    [2, 4, 6],
];

impl Mark {
    /// Returns the opponent's mark.
    pub const fn other(self) -> Self {
        match self {
            Self::X => Self::O,
            Self::O => Self::X,
        }
    }

    /// Returns `X` or `O`.
    pub const fn as_char(self) -> char {
        match self {
            Self::X => 'X',
            Self::O => 'O',
        }
    }
}

impl Cell {
    /// Returns the cell with this number, 0 to 8. `None` for any other number.
    pub fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| *number < 9).map(Self)
    }

    /// Returns the number of the cell, 0 to 8.
    pub fn number(self) -> i32 {
        self.0.into()
    }

    fn index(self) -> usize {
        self.0.into()
    }
}

impl Board {
    /// Returns the mark on the cell, or `None` if it is empty.
    pub fn get(&self, cell: Cell) -> Option<Mark> {
        self.cells[cell.index()]
    }

    /// Returns the board with this mark on this cell. The caller must know that the cell is empty.
    pub fn with(mut self, cell: Cell, mark: Mark) -> Self {
        self.cells[cell.index()] = Some(mark);
        self
    }

    /// Returns the empty cells, in order.
    pub fn empty_cells(&self) -> impl Iterator<Item = Cell> + use<> {
        let cells = self.cells;
        (0..9).map(Cell).filter(move |cell| cells[cell.index()].is_none())
    }

    /// Returns the mark that moves next, or how the game ended.
    pub fn outcome(&self) -> Outcome {
        let line = |[a, b, c]: &[usize; 3]| {
            self.cells[*a].filter(|_| self.cells[*a] == self.cells[*b] && self.cells[*b] == self.cells[*c])
        };
        if let Some(winner) = LINES.iter().find_map(line) {
            return Outcome::Won(winner);
        }
        match self.empty_cells().count() {
            0 => Outcome::Draw,
            // If the number of empty cells is odd, both have moved equally often.
            empty if empty % 2 == 1 => Outcome::Turn(Mark::X),
            _ => Outcome::Turn(Mark::O),
        }
    }
}

impl fmt::Display for Board {
    /// Writes nine characters, row by row: `X`, `O`, or `.` for empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cells
            .iter()
            .try_for_each(|cell| write!(f, "{}", cell.map_or('.', Mark::as_char)))
    }
}

/// Error for a text other than nine of `X`, `O` and `.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseBoardError;

impl FromStr for Board {
    type Err = ParseBoardError;

    fn from_str(text: &str) -> Result<Self, ParseBoardError> {
        let mut board = Self::default();
        let mut characters = text.chars();
        for cell in &mut board.cells {
            *cell = match characters.next() {
                Some('X') => Some(Mark::X),
                Some('O') => Some(Mark::O),
                Some('.') => None,
                _ => return Err(ParseBoardError),
            };
        }
        if characters.next().is_some() {
            Err(ParseBoardError)
        } else {
            Ok(board)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Outcome {
        text.parse::<Board>().expect("a board").outcome()
    }

    #[test]
    fn every_line_wins() {
        for line in LINES {
            for mark in [Mark::X, Mark::O] {
                let board = line.iter().fold(Board::default(), |board, cell| {
                    board.with(
                        Cell::new(i32::try_from(*cell).expect("small")).expect("on the board"),
                        mark,
                    )
                });
                assert_eq!(board.outcome(), Outcome::Won(mark), "{board}");
            }
        }
    }

    #[test]
    fn turns_alternate_and_a_full_board_is_drawn() {
        for (board, expected) in [
            (".........", Outcome::Turn(Mark::X)),
            ("X........", Outcome::Turn(Mark::O)),
            ("XO.......", Outcome::Turn(Mark::X)),
            ("XOXXOOOXX", Outcome::Draw),
            // The last cell completes a line.
            ("XOXOXOOXX", Outcome::Won(Mark::X)),
        ] {
            assert_eq!(outcome(board), expected, "{board}");
        }
    }

    #[test]
    fn a_board_round_trips_through_its_text() {
        for text in [".........", "XOX.O...X"] {
            assert_eq!(text.parse::<Board>().expect("a board").to_string(), text);
        }
        for text in ["", "XO", "XOXOXOXOXO", "xo.......", "XO......é"] {
            assert_eq!(text.parse::<Board>(), Err(ParseBoardError), "{text}");
        }
    }

    #[test]
    fn cells_are_on_the_board() {
        assert_eq!(Cell::new(8).map(Cell::number), Some(8));
        for number in [-1, 9, i32::MIN, i32::MAX, 256] {
            assert_eq!(Cell::new(number), None);
        }
    }
}
