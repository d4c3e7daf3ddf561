//! The file of an import, read line by line in bounded memory.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};

/// Maximum size of a line, in bytes. The rest of a longer line is skipped.
const MAX_LINE: usize = 64 * 1024;
/// Size of the pieces in which the file is read, in bytes.
const PIECE: usize = 1024 * 1024;

/// A file to import.
#[derive(Debug)]
pub(super) struct ImportFile {
    path: PathBuf,
    digest: Vec<u8>,
    lines: u64,
}

/// A line of the file.
#[derive(Debug)]
pub(super) struct Line {
    /// Number of the line, from 1 on.
    pub(super) number: u64,
    /// Text without the line break; `None` if it is too long.
    pub(super) text: Option<Vec<u8>>,
}

/// The lines of a file, from the first one on.
pub(super) struct Lines {
    reader: BufReader<File>,
    number: u64,
    /// SHA-256 of what was read so far.
    digest: Context,
}

impl ImportFile {
    /// Opens a file. Computes its SHA-256, by which an interrupted import is recognized, and counts
    /// its lines.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if !file.metadata()?.is_file() {
            let why = "must be a regular file, because it is read more than once";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut digest = Context::new(&SHA256);
        let (mut lines, mut is_within_line) = (0, false);
        let mut piece = vec![0; PIECE];
        loop {
            let len = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let piece = &piece[..len];
            digest.update(piece);
            lines += piece.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            is_within_line = piece.last() != Some(&b'\n');
        }
        Ok(Self {
            path: path.to_owned(),
            digest: digest.finish().as_ref().to_vec(),
            lines: lines + u64::from(is_within_line),
        })
    }

    /// Returns the SHA-256 of the file.
    pub(super) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Returns the number of lines.
    pub(super) const fn lines(&self) -> u64 {
        self.lines
    }

    /// Begins to read the lines.
    pub(super) fn read(&self) -> io::Result<Lines> {
        Ok(Lines {
            reader: BufReader::with_capacity(PIECE, File::open(&self.path)?),
            number: 0,
            digest: Context::new(&SHA256),
        })
    }
}

impl Line {
    /// Returns whether the line has nothing but white space.
    pub(super) fn is_empty(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.trim_ascii().is_empty())
    }
}

impl Lines {
    /// Returns the next lines, at most this many. None are left if it returns none.
    pub(super) fn next_batch(&mut self, max: usize) -> io::Result<Vec<Line>> {
        let mut batch = Vec::new();
        while batch.len() < max
            && let Some(line) = self.next()?
        {
            batch.push(line);
        }
        Ok(batch)
    }

    /// Returns the SHA-256 of the file up to the end of the last line that was returned.
    pub(super) fn digest(&self) -> Vec<u8> {
        self.digest.clone().finish().as_ref().to_vec()
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        // One byte more than the longest line, for the line break.
        let len = (&mut self.reader)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut text)?;
        if len == 0 {
            return Ok(None);
        }
        self.digest.update(&text);
        self.number += 1;
        let is_whole = text.pop_if(|last| *last == b'\n').is_some() || text.len() <= MAX_LINE;
        if !is_whole {
            self.skip_line()?;
        }
        Ok(Some(Line {
            number: self.number,
            text: is_whole.then_some(text),
        }))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let piece = self.reader.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            let newline = piece.iter().position(|byte| *byte == b'\n');
            let len = newline.map_or(piece.len(), |index| index + 1);
            self.digest.update(&piece[..len]);
            self.reader.consume(len);
            if newline.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn texts(content: &[u8]) -> (u64, Vec<Option<usize>>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        fs::write(&path, content).expect("written");
        let file = ImportFile::open(&path).expect("a file");
        let mut lines = file.read().expect("opened");
        let mut all = Vec::new();
        loop {
            let batch = lines.next_batch(2).expect("read");
            if batch.is_empty() {
                break;
            }
            for line in batch {
                all.push(line.text.map(|text| text.len()));
                assert_eq!(line.number, all.len() as u64);
            }
        }
        assert_eq!(lines.digest(), file.digest());
        (file.lines(), all)
    }

    #[test]
    fn lines_are_counted_and_read_within_bounds() {
        assert_eq!(texts(b""), (0, vec![]));
        assert_eq!(texts(b"a"), (1, vec![Some(1)]));
        assert_eq!(texts(b"a\n"), (1, vec![Some(1)]));
        assert_eq!(texts(b"\n\nab\ncd"), (4, vec![Some(0), Some(0), Some(2), Some(2)]));
        let long = vec![b'x'; MAX_LINE];
        for (len, read) in [(MAX_LINE, Some(MAX_LINE)), (MAX_LINE + 1, None), (40 * MAX_LINE, None)] {
            let line = vec![b'x'; len];
            assert_eq!(texts(&line), (1, vec![read]));
            let content = [&line[..], b"\na\n", &long, b"\n"].concat();
            assert_eq!(texts(&content), (3, vec![read, Some(1), Some(MAX_LINE)]));
        }
    }
}
