//! A file of passwords that are known from data breaches (NIST SP 800-63B, section 3.1.1.2), such
//! as the list of <https://haveibeenpwned.com/Passwords>.
//!
//! Each line is the SHA-1 of a password in hexadecimal digits, a colon, and a number of
//! occurrences. The lines are sorted. The file has tens of gigabytes, so it is searched on the
//! disk: a look-up reads about 30 of its pages, most of which are soon in memory.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::domain::passwords::password::Password;

/// Maximum size of a line with its line break, in bytes: 40 digits, a colon, and a number.
const MAX_LINE: usize = 80;
/// Number of lines that are checked when the file is opened, beside the first and the last.
const SAMPLES: u64 = 64;
/// Number of hexadecimal digits of a SHA-1.
const DIGITS: usize = 40;

type Sha1 = [u8; DIGITS / 2];

/// A file of breached passwords that was checked and is open.
#[derive(Clone, Debug)]
pub(crate) struct BreachedPasswords(Arc<Lines>);

#[derive(Debug)]
struct Lines {
    file: File,
    path: PathBuf,
    /// Size of the file when it was opened.
    len: u64,
}

/// A line, and where it begins and ends.
struct Line {
    start: u64,
    /// Position of the next line.
    end: u64,
    sha1: Sha1,
}

impl BreachedPasswords {
    /// Opens a file. Checks its first and last line and some in between: their form and their
    /// order.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        let lines = Lines {
            file,
            path: path.to_owned(),
            len: metadata.len(),
        };
        lines.check()?;
        Ok(Self(Arc::new(lines)))
    }

    /// Returns whether the password is in the file, either as it was typed or as we hash it. Blocks
    /// while the file is read.
    pub(in crate::domain) fn contains(&self, password: &Password) -> io::Result<bool> {
        let lines = &self.0;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", lines.path.display()));
        let found = lines.contains(password.as_bytes()).map_err(named)?;
        if found || password.as_typed() == password.as_bytes() {
            return Ok(found);
        }
        lines.contains(password.as_typed()).map_err(named)
    }
}

impl Lines {
    fn check(&self) -> io::Result<()> {
        let mut before = self.line_from(0)?.ok_or_else(|| invalid("it is empty"))?;
        for sample in 1..=SAMPLES {
            let position = u128::from(self.len) * u128::from(sample) / u128::from(SAMPLES + 1);
            let position = u64::try_from(position).unwrap_or(self.len);
            // Several positions of a small file are in the same line.
            if position < before.end {
                continue;
            }
            let Some(line) = self.line_from(position)? else { break };
            ensure_sorted(&before, &line)?;
            before = line;
        }
        // The last line begins at most two lines before the end.
        let mut position = self.len.saturating_sub(2 * MAX_LINE as u64).max(before.end);
        while let Some(line) = self.line_from(position)? {
            ensure_sorted(&before, &line)?;
            position = line.end;
            before = line;
        }
        Ok(())
    }

    fn contains(&self, password: &[u8]) -> io::Result<bool> {
        let wanted = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
        let (mut low, mut high) = (0, self.len);
        // Each line that begins before `low` is smaller, and each that begins at `high` or later
        // larger.
        while low < high {
            let middle = low + (high - low) / 2;
            let line = self.line_from(middle)?.filter(|line| line.start < high);
            let Some(line) = line else {
                high = middle;
                continue;
            };
            match line.sha1.as_slice().cmp(wanted.as_ref()) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => low = line.end,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    /// Returns the first line that begins at this position or later, if there is one.
    fn line_from(&self, position: u64) -> io::Result<Option<Line>> {
        let mut buffer = [0; 2 * MAX_LINE];
        // A line begins behind a line break, so the byte before is read as well.
        let from = position.saturating_sub(1);
        let read = self.read(&mut buffer, from)?;
        let skipped = if position == 0 {
            0
        } else {
            match read.iter().position(|byte| *byte == b'\n') {
                Some(index) => index + 1,
                None if read.len() < MAX_LINE => return Ok(None),
                None => return Err(invalid("a line is too long")),
            }
        };
        let rest = &read[skipped..];
        if rest.is_empty() {
            return Ok(None);
        }
        let start = from + skipped as u64;
        let (text, len) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(index) => (&rest[..index], index + 1),
            // The last line need not end with a line break.
            None if start + rest.len() as u64 == self.len => (rest, rest.len()),
            None => return Err(invalid("a line is too long")),
        };
        let sha1 = parse(text).ok_or_else(|| {
            let form = "a line is not 40 hexadecimal digits, a colon and a number";
            invalid(&format!("{form} (at byte {start})"))
        })?;
        Ok(Some(Line {
            start,
            end: start + len as u64,
            sha1,
        }))
    }

    /// Reads as much as the buffer holds, or all until the end. Fails if the file has become
    /// shorter.
    fn read<'a>(&self, buffer: &'a mut [u8], from: u64) -> io::Result<&'a [u8]> {
        let mut len = 0;
        while len < buffer.len() {
            match self.file.read_at(&mut buffer[len..], from + len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A search must not take the end of a file that was cut off for the end of the list.
        if len < buffer.len() && from + (len as u64) < self.len {
            return Err(invalid("it has become shorter since it was opened"));
        }
        Ok(&buffer[..len])
    }
}

fn ensure_sorted(before: &Line, line: &Line) -> io::Result<()> {
    if before.sha1 < line.sha1 {
        return Ok(());
    }
    Err(invalid(&format!("its lines are not sorted (at byte {})", line.start)))
}

/// Reads `<40 hexadecimal digits>:<number>`.
fn parse(line: &[u8]) -> Option<Sha1> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (digits, rest) = line.split_at_checked(DIGITS)?;
    let (colon, count) = rest.split_first()?;
    if *colon != b':' || count.is_empty() || !count.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut sha1 = [0; DIGITS / 2];
    for (byte, pair) in sha1.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |index: usize| char::from(pair[index]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(sha1)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs};

    use super::*;

    fn sha1_line(password: &str, count: usize) -> String {
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let digits = sha1.as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02X}").expect("a String takes it");
            text
        });
        format!("{digits}:{count}")
    }

    fn open(text: &str) -> io::Result<BreachedPasswords> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("breached");
        fs::write(&path, text).expect("written");
        BreachedPasswords::open(&path)
    }

    fn file_of(passwords: &[String], newline: &str, last: &str) -> String {
        // Numbers of several lengths, so that lines have several lengths.
        let lines = passwords.iter().enumerate();
        let mut lines: Vec<String> = lines
            .map(|(index, password)| sha1_line(password, 10_usize.pow(u32::try_from(index % 9).expect("small"))))
            .collect();
        lines.sort();
        format!("{}{last}", lines.join(newline))
    }

    #[test]
    fn every_line_of_a_file_is_found_and_nothing_else() {
        for (count, newline, last) in [
            (1, "\n", "\n"),
            (2, "\r\n", "\r\n"),
            (3, "\n", ""),
            (2000, "\r\n", ""),
            (2000, "\n", "\n"),
        ] {
            let passwords: Vec<String> = (0..count).map(|number| format!("breached {number}")).collect();
            let breached = open(&file_of(&passwords, newline, last)).expect("a good file");
            for number in 0..count {
                let [present, absent] = [format!("breached {number}"), format!("other {number}")]
                    .map(|text| Password::presented(&text).expect("a good password"));
                assert!(breached.contains(&present).expect("read"), "{number} of {count}");
                assert!(!breached.contains(&absent).expect("read"), "{number} of {count}");
            }
        }
    }

    #[test]
    fn both_forms_of_a_password_are_looked_up() {
        let breached = open(&file_of(&["\u{ff50}assword".to_owned()], "\n", "\n")).expect("a good file");
        let typed = Password::presented("\u{ff50}assword").expect("a good password");
        assert!(breached.contains(&typed).expect("read"));
        let normal = Password::presented("password").expect("a good password");
        assert!(!breached.contains(&normal).expect("read"));
    }

    #[test]
    fn a_file_in_another_form_is_refused() {
        let passwords: Vec<String> = (0..500).map(|number| format!("breached {number}")).collect();
        let good = file_of(&passwords, "\n", "\n");
        let reversed: Vec<&str> = good.lines().rev().collect();
        let long = "0".repeat(1000);
        for (text, words) in [
            (String::new(), "empty"),
            ("password\n".to_owned(), "40 hexadecimal digits"),
            (good.replace(':', " "), "40 hexadecimal digits"),
            (reversed.join("\n"), "not sorted"),
            (good.replacen('\n', &format!("\n{long}\n"), 250), "too long"),
            (format!("{good}{long}"), "too long"),
            (format!("{good}{}", &good[..46]), "not sorted"),
            (format!("{good}\0\0\0\n"), "40 hexadecimal digits"),
        ] {
            let error = open(&text).expect_err("refused").to_string();
            assert!(error.contains(words), "{error}: {words}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert!(BreachedPasswords::open(folder.path()).is_err());
        assert!(BreachedPasswords::open(&folder.path().join("nothing")).is_err());
    }

    #[test]
    fn a_file_that_has_become_shorter_answers_nothing() {
        let passwords: Vec<String> = (0..500).map(|number| format!("breached {number}")).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("breached");
        let text = file_of(&passwords, "\n", "\n");
        for len in [0, text.len() / 2] {
            fs::write(&path, &text).expect("written");
            let breached = BreachedPasswords::open(&path).expect("a good file");
            fs::write(&path, &text[..len]).expect("written");
            for password in &passwords {
                let password = Password::presented(password).expect("a good password");
                let error = breached.contains(&password).expect_err("refused").to_string();
                assert!(error.contains("become shorter"), "{error}");
            }
        }
    }
}
