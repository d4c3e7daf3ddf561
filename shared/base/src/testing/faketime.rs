//! A wall clock that a test sets under a running program, by libfaketime. Its monotonic clock goes
//! on as it does.

use std::{fs, path::Path};

use tempfile::TempDir;

/// Paths at which Debian's package installs it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The wall clock of programs that are started with its [environment](Self::environment).
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
    /// A clock that is right.
    pub fn new() -> Self {
        let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
        let clock = Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            library: library.expect("libfaketime is not there; on Debian: apt-get install -y faketime"),
        };
        clock.set(0);
        clock
    }

    /// Sets it this many seconds ahead of the right time, or back. Programs see it at once.
    pub fn set(&self, seconds: i64) {
        // In one step: a program never reads half of it.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("write a file");
        fs::rename(new, self.file()).expect("rename a file");
    }

    /// Environment that makes a program go by this clock.
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
