//! Fuzz targets. Each feeds one parser with the inputs of a corpus and with randomly altered
//! genuine inputs.
//!
//! An ordinary test run tries 256 altered inputs per target. For a longer run, set another number:
//!
//! ```sh
//! PROPTEST_CASES=1000000 cargo test --workspace --release -- fuzz
//! ```
//!
//! A failing input is shrunk and printed as a line for the target's corpus, a text file next to the
//! test. Add the line there together with the fix: every run replays the whole corpus first.

use std::fmt::Debug;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestError, TestRunner},
};

/// Maximum number of alterations of one input.
const MAX_ALTERATIONS: usize = 6;
/// Upper bound (exclusive) of the number of pieces in an input that is built from scratch.
const MAX_PIECES: usize = 40;

/// The inputs of one fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Corpus: one input per line, escaped as by `<[u8]>::escape_ascii`. `{0}` to `{9}` stand for
    /// the genuine inputs with that index, and lines that begin with `#` are comments.
    pub corpus: &'a str,
    /// Inputs that the parser accepts, or refuses for a single reason. Altered inputs are made from
    /// them.
    pub genuine: &'a [&'a [u8]],
    /// Texts with a meaning for the parser: separators, keywords, limits.
    pub pieces: &'a [&'a str],
}

impl Target<'_> {
    /// Runs a check on inputs of arbitrary bytes. The check panics if it finds a fault.
    #[track_caller]
    pub fn bytes(&self, check: impl Fn(&[u8])) {
        self.run(|units: &[u8]| check(units));
    }

    /// Runs a check on inputs that are UTF-8. The check panics if it finds a fault.
    #[track_caller]
    pub fn texts(&self, check: impl Fn(&str)) {
        self.run(|units: &[char]| check(&units.iter().collect::<String>()));
    }

    #[track_caller]
    fn run<U: Unit>(&self, check: impl Fn(&[U])) {
        check(&[]);
        for input in self.genuine {
            check(&U::all(input));
        }
        for line in self
            .corpus
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            #[expect(clippy::print_stdout, reason = "says which line it was, should the check panic")]
            {
                println!("corpus input: {line}");
            }
            check(&U::all(&self.unescape(line)));
        }
        let config = Config {
            // Failing inputs are added to the corpus by hand.
            failure_persistence: None,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(&self.inputs::<U>(), |input| {
            check(&input);
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Abort(reason)) => panic!("{reason}"),
            Err(TestError::Fail(reason, input)) => {
                // Escaped, so that the line is not read as a comment or as a reference to a genuine
                // input.
                let line = U::to_bytes(&input).escape_ascii().to_string();
                let line = line.replace('#', "\\x23").replace('{', "\\x7b");
                panic!("{reason}\nadd this line to the corpus:\n{line}");
            }
        }
    }

    fn inputs<U: Unit>(&self) -> impl Strategy<Value = Vec<U>> + use<U> {
        let genuine: Vec<Vec<U>> = self.genuine.iter().map(|input| U::all(input)).collect();
        let piece = self.piece::<U>();
        let from_nothing = vec(piece.clone(), 0..MAX_PIECES).prop_map(|pieces| pieces.concat());
        if genuine.is_empty() {
            return from_nothing.boxed();
        }
        // A single alteration gets past the early checks to the one that it violates; several
        // mostly fail the first check.
        let alteration = alteration(piece);
        let alterations = prop_oneof![
            2 => vec(alteration.clone(), 1),
            1 => vec(alteration, 0..=MAX_ALTERATIONS),
        ];
        let altered = (any::<Index>(), alterations).prop_map(move |(which, alterations)| {
            let input = which.get(&genuine).clone();
            alterations
                .into_iter()
                .fold(input, |input, alteration| alteration.apply(input, &genuine))
        });
        prop_oneof![7 => altered, 1 => from_nothing].boxed()
    }

    fn piece<U: Unit>(&self) -> BoxedStrategy<Vec<U>> {
        let random = vec(U::arbitrary_unit(), 1..4);
        let pieces: Vec<Vec<U>> = self.pieces.iter().map(|piece| U::all(piece.as_bytes())).collect();
        if pieces.is_empty() {
            random.boxed()
        } else {
            prop_oneof![3 => select(pieces), 1 => random].boxed()
        }
    }

    fn unescape(&self, line: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = line.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            match (first, after) {
                (b'\\', [b'x', high, low, after @ ..]) => {
                    let digits = [*high, *low];
                    let digits = str::from_utf8(&digits).expect("two digits");
                    bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                    rest = after;
                }
                (b'\\', [escaped, after @ ..]) => {
                    bytes.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        other => *other,
                    });
                    rest = after;
                }
                (b'{', [index @ b'0'..=b'9', b'}', after @ ..]) => {
                    bytes.extend_from_slice(self.genuine[usize::from(index - b'0')]);
                    rest = after;
                }
                _ => bytes.push(first),
            }
        }
        bytes
    }
}

/// Unit of an input: a byte, or a character of a text.
trait Unit: Copy + Debug + 'static {
    fn arbitrary_unit() -> BoxedStrategy<Self>;
    fn all(bytes: &[u8]) -> Vec<Self>;
    fn to_bytes(units: &[Self]) -> Vec<u8>;
    /// Returns the unit with one bit flipped, or the unchanged unit if the result would not be
    /// valid.
    fn flipped(self, bit: u8) -> Self;
}

impl Unit for u8 {
    fn arbitrary_unit() -> BoxedStrategy<Self> {
        any::<Self>().boxed()
    }

    fn all(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }

    fn to_bytes(units: &[Self]) -> Vec<u8> {
        units.to_vec()
    }

    fn flipped(self, bit: u8) -> Self {
        self ^ (1 << (bit % 8))
    }
}

impl Unit for char {
    fn arbitrary_unit() -> BoxedStrategy<Self> {
        any::<Self>().boxed()
    }

    fn all(bytes: &[u8]) -> Vec<Self> {
        str::from_utf8(bytes).expect("a text").chars().collect()
    }

    fn to_bytes(units: &[Self]) -> Vec<u8> {
        units.iter().collect::<String>().into_bytes()
    }

    fn flipped(self, bit: u8) -> Self {
        Self::from_u32(u32::from(self) ^ (1 << (bit % 8))).unwrap_or(self)
    }
}

#[derive(Clone, Debug)]
enum Alteration<U> {
    Flip(Index, u8),
    Insert(Index, Vec<U>),
    Replace(Index, Vec<U>),
    Remove(Index, usize),
    Cut(Index),
    /// Position, number of units, and how many times they are repeated.
    Repeat(Index, usize, usize),
    /// Continues with another genuine input: its index, the position in this input, and the
    /// position in the other one.
    Splice(Index, Index, Index),
}

fn alteration<U: Unit>(piece: BoxedStrategy<Vec<U>>) -> impl Strategy<Value = Alteration<U>> + Clone {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Alteration::Flip(at, bit)),
        4 => (at(), piece.clone()).prop_map(|(at, piece)| Alteration::Insert(at, piece)),
        4 => (at(), piece).prop_map(|(at, piece)| Alteration::Replace(at, piece)),
        2 => (at(), 1..8_usize).prop_map(|(at, len)| Alteration::Remove(at, len)),
        1 => at().prop_map(Alteration::Cut),
        1 => (at(), 1..8_usize, 2..80_usize).prop_map(|(at, len, times)| Alteration::Repeat(at, len, times)),
        2 => (at(), at(), at()).prop_map(|(which, to, from)| Alteration::Splice(which, to, from)),
    ]
}

impl<U: Unit> Alteration<U> {
    fn apply(self, mut input: Vec<U>, genuine: &[Vec<U>]) -> Vec<U> {
        // There is one more position than there are units, because the end counts too.
        let place = |at: Index, input: &[U]| at.index(input.len() + 1);
        match self {
            Self::Flip(at, bit) => {
                let at = place(at, &input);
                if let Some(unit) = input.get_mut(at) {
                    *unit = unit.flipped(bit);
                }
            }
            Self::Insert(at, piece) => {
                let at = place(at, &input);
                input.splice(at..at, piece);
            }
            Self::Replace(at, piece) => {
                let at = place(at, &input);
                let end = (at + piece.len()).min(input.len());
                input.splice(at..end, piece);
            }
            Self::Remove(at, len) => {
                let at = place(at, &input);
                let end = (at + len).min(input.len());
                input.drain(at..end);
            }
            Self::Cut(at) => input.truncate(place(at, &input)),
            Self::Repeat(at, len, times) => {
                let at = place(at, &input);
                let end = (at + len).min(input.len());
                let repeated = input[at..end].repeat(times);
                input.splice(at..end, repeated);
            }
            Self::Splice(which, to, from) => {
                let other = which.get(genuine);
                input.truncate(place(to, &input));
                input.extend_from_slice(&other[place(from, other)..]);
            }
        }
        input
    }
}
