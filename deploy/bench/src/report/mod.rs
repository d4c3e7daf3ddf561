//! Report of the results, for people and for machines.

mod chart;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::Path,
};

use db::Backend;

use crate::load::{Cpu, Slice};

/// All results, and the machine on which they were measured.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// Machine and command of the measurement.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    command: String,
}

/// One figure, its goal, and the loads that it was computed from.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    /// Name of the database. Empty if none takes part.
    pub(crate) database: &'static str,
    pub(crate) figure: Spread,
    pub(crate) unit: Unit,
    pub(crate) goal: Goal,
    pub(crate) is_met: bool,
    /// Description of the figure and of its baseline.
    pub(crate) what: String,
    /// Loads that were measured, ours first.
    pub(crate) loads: Vec<Load>,
}

/// Median and range of a figure over the rounds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Multiple of the baseline.
    Times,
    /// Fraction, from 0 to 1.
    Share,
    Micros,
    Millis,
    Bytes,
    Kib,
    Mib,
    PerSecond,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// Results of a load: medians over the rounds.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// Processor time per call, in microseconds.
    pub(crate) cpu: Cpu,
    /// Memory of the service after the last round, in MiB.
    pub(crate) memory_mib: f64,
    pub(crate) peak_memory_mib: f64,
    /// Number of calls in all rounds, by gRPC code.
    pub(crate) codes: BTreeMap<String, u64>,
}

/// Measurements of one side, one per round.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Vec<Slice>);

impl Report {
    /// Creates a report for the scenarios of this command line.
    pub(crate) fn new(command_line: impl Iterator<Item = OsString>) -> Self {
        Self {
            machine: Machine::this(command_line),
            rows: Vec::new(),
        }
    }

    /// Adds a row and prints it.
    pub(crate) fn add(&mut self, row: Row) {
        println!("{}", table::line(&row));
        self.rows.push(row);
    }

    /// Prints all rows as a table.
    pub(crate) fn print(&self) {
        println!("{}", table::table(self));
    }

    pub(crate) fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(path, text)
    }

    pub(crate) fn write_markdown(&self, path: &Path) -> io::Result<()> {
        fs::write(path, table::short(self))
    }

    pub(crate) fn write_chart(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        chart::write(self, path)
    }
}

impl Machine {
    fn this(command_line: impl Iterator<Item = OsString>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
            value.unwrap_or_default()
        };
        let kib: f64 = field(&read("/proc/meminfo"), "MemTotal")
            .split_whitespace()
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0.0);
        let arguments: Vec<String> = command_line
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_gib: (kib / 1024.0 / 1024.0).round(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            command: format!("cargo run --release -p bench -- {}", arguments.join(" ")),
        }
    }
}

impl Row {
    pub(crate) fn new(
        scenario: impl Into<String>,
        backend: Option<Backend>,
        what: impl Into<String>,
        (figure, unit): (Spread, Unit),
        goal: Goal,
    ) -> Self {
        Self {
            scenario: scenario.into(),
            database: backend.map_or("", name),
            is_met: goal.is_met(figure.median),
            figure,
            unit,
            goal,
            what: what.into(),
            loads: Vec::new(),
        }
    }

    /// Adds the load of one side.
    pub(crate) fn with(mut self, name: &str, rounds: &Rounds) -> Self {
        self.loads.extend(rounds.load(name));
        self
    }
}

/// Returns the name of the database as its makers spell it.
pub(crate) const fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "SQLite",
        Backend::Postgres => "PostgreSQL",
    }
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(at(middle - 1), at(middle))
        } else {
            at(middle)
        };
        Self {
            median,
            min: at(0),
            max: at(values.len().saturating_sub(1)),
        }
    }

    /// Creates the spread of a single measurement.
    pub(crate) const fn once(value: f64) -> Self {
        Self {
            median: value,
            min: value,
            max: value,
        }
    }
}

impl Unit {
    const fn text(self) -> &'static str {
        match self {
            Self::Times => "x",
            Self::Share => "",
            Self::Micros => " us",
            Self::Millis => " ms",
            Self::Bytes => " B",
            Self::Kib => " KiB",
            Self::Mib => " MiB",
            Self::PerSecond => " /s",
        }
    }
}

impl Goal {
    const fn limit(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }

    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => figure >= limit,
        }
    }
}

impl Rounds {
    pub(crate) fn push(&mut self, slice: Slice) {
        self.0.push(slice);
    }

    /// Returns a figure of each round.
    pub(crate) fn each(&self, of: impl Fn(&Slice) -> f64) -> Vec<f64> {
        self.0.iter().map(of).collect()
    }

    pub(crate) fn last(&self) -> &Slice {
        self.0.last().expect("there was a round")
    }

    /// Returns the gRPC codes that occurred.
    pub(crate) fn codes(&self) -> Vec<String> {
        let codes: BTreeSet<&String> = self.0.iter().flat_map(|slice| slice.codes.keys()).collect();
        codes.into_iter().cloned().collect()
    }

    fn load(&self, name: &str) -> Option<Load> {
        let last = self.0.last()?;
        let median = |of: &dyn Fn(&Slice) -> f64| Spread::of(self.0.iter().map(of).collect()).median;
        let mut codes = BTreeMap::new();
        for slice in &self.0 {
            for (code, calls) in &slice.codes {
                *codes.entry(code.clone()).or_default() += calls;
            }
        }
        Some(Load {
            name: name.to_owned(),
            calls_per_second: median(&Slice::goodput),
            p50_ms: median(&|slice| slice.percentile(0.5)),
            p99_ms: median(&|slice| slice.percentile(0.99)),
            p999_ms: median(&|slice| slice.percentile(0.999)),
            cpu: Cpu {
                service: median(&|slice| slice.cpu_per_call().service),
                database: median(&|slice| slice.cpu_per_call().database),
                client: median(&|slice| slice.cpu_per_call().client),
            },
            memory_mib: last.memory,
            peak_memory_mib: last.peak_memory,
            codes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        for (values, median) in [
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 2.0, 3.0], 2.5),
            (vec![7.0], 7.0),
        ] {
            assert!((Spread::of(values).median - median).abs() < 1e-9);
        }
    }

    #[test]
    fn goals_are_met_up_to_their_bound() {
        assert!(Goal::AtMost(3.0).is_met(3.0) && !Goal::AtMost(3.0).is_met(3.1));
        assert!(Goal::AtLeast(0.9).is_met(0.9) && !Goal::AtLeast(0.9).is_met(0.8));
        // A figure that could not be measured does not meet its goal.
        assert!(!Goal::AtMost(3.0).is_met(f64::NAN));
    }
}
