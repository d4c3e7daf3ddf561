//! Imports of users from another system.

use base::clock::Timestamp;

/// How far the import of a file has come.
#[derive(Clone, Debug)]
pub(crate) struct ImportProgress {
    /// SHA-256 of the file.
    pub(crate) file_digest: Vec<u8>,
    /// Number of lines of the file.
    pub(crate) lines: i64,
    /// Number of lines that are done, from the first one on.
    pub(crate) done_lines: i64,
    /// Number of users that were imported.
    pub(crate) users: i64,
    pub(crate) start_time: Timestamp,
    /// Time when lines were last done.
    pub(crate) update_time: Timestamp,
}

impl ImportProgress {
    /// Returns whether every line of the file is done.
    pub(crate) const fn is_finished(&self) -> bool {
        self.done_lines == self.lines
    }
}
