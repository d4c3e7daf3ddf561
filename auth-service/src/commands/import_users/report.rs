//! Reports of the command while it works: its progress, and the lines that cannot be imported.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::domain::Rejected;

/// Time between two lines of progress if standard error is not a terminal.
const INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of bad fields of a line that are printed.
const MAX_FIELDS: usize = 20;

/// Writes to standard error: a progress bar if it is a terminal, and plain lines otherwise.
#[derive(Debug)]
pub(super) struct Report {
    lines: u64,
    bar: Option<ProgressBar>,
    what: &'static str,
    /// Time of the last line of progress.
    said: Instant,
    printed: u64,
    max_printed: u64,
}

impl Report {
    /// Creates a report about a file with this many lines, which prints at most `max_printed`
    /// invalid ones.
    pub(super) fn new(lines: u64, max_printed: u64) -> Self {
        Self {
            lines,
            bar: None,
            what: "",
            said: Instant::now(),
            printed: 0,
            max_printed,
        }
    }

    /// Begins with the first line. `what` says what is done with the lines.
    pub(super) fn begin(&mut self, what: &'static str) {
        self.what = what;
        self.said = Instant::now();
        if !stderr().is_terminal() {
            return;
        }
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {human_pos}/{human_len} lines {per_sec} {eta} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(self.lines), ProgressDrawTarget::stderr_with_hz(5))
            .with_style(style.progress_chars("=> "))
            .with_message(what);
        self.bar = Some(bar);
    }

    /// Reports that this line was reached.
    pub(super) fn reached(&mut self, line: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(line);
        } else if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            print(&format!("{} {line} of {} lines", self.what, self.lines));
        }
    }

    /// Reports a line that cannot be imported.
    pub(super) fn rejected(&mut self, rejected: &Rejected) {
        self.printed += 1;
        let text = if self.printed <= self.max_printed {
            describe(rejected)
        } else if self.printed == self.max_printed + 1 {
            "further invalid lines are counted but not shown".to_owned()
        } else {
            return;
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| print(&text)),
            None => print(&text),
        }
    }

    /// Removes the progress bar.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns a line of text that names every bad field.
fn describe(rejected: &Rejected) -> String {
    let mut text = format!("line {}", rejected.line);
    for (index, bad) in rejected.fields.iter().take(MAX_FIELDS).enumerate() {
        let separator = if index == 0 { ":" } else { ";" };
        let _ = write!(text, "{separator} {} {}", bad.field, bad.description);
    }
    if let Some(more) = rejected.fields.len().checked_sub(MAX_FIELDS).filter(|more| *more > 0) {
        let _ = write!(text, "; and {more} more");
    }
    text
}

#[expect(clippy::print_stderr, reason = "what the operator watches")]
fn print(line: &str) {
    eprintln!("{line}");
}
