//! A wall clock that a test changes under a running program, using libfaketime. The program's
//! monotonic clock is unaffected.

use std::{fs, path::Path};

use tempfile::TempDir;

/// Paths at which Debian's package installs libfaketime.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// Wall clock of the programs that are started with its [environment](Self::environment).
#[derive(Debug)]
pub struct WallClock {
    folder: TempDir,
    library: &'static str,
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

impl WallClock {
    /// Creates a clock that shows the correct time.
    pub fn new() -> Self {
        let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
        let clock = Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            library: library.expect("libfaketime is not there; on Debian: apt-get install -y faketime"),
        };
        clock.set(0);
        clock
    }

    /// Sets the clock this many seconds ahead of the correct time, or behind it if negative.
    /// Running programs see the change at once.
    pub fn set(&self, seconds: i64) {
        // Renaming is atomic, so a program never reads a half-written file.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("write a file");
        fs::rename(new, self.file()).expect("rename a file");
    }

    /// Returns the environment variables that make a program use this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", self.file().to_str().expect("UTF-8")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("offset")
    }
}
