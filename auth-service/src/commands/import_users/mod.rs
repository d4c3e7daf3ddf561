//! `auth-service import-users`: imports users from another system, with their password hashes. It
//! needs access to the database, but no account.

mod file;
mod line;
mod names;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    path::PathBuf,
};

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::DatabaseArgs;
use tokio::time::Instant;

use self::{file::ImportFile, line::LineRules, names::Names, report::Report};
use super::{bad, pause_after};
use crate::{
    domain::{CodeName, HashLimits, HashingPool, HashingSettings, Imported, ImportedUser, Rejected, UserImport},
    model::{ImportProgress, ReservedRole},
};

/// Number of lines in one transaction.
const BATCH: usize = 500;
/// Exit code if lines are invalid.
const INVALID: u8 = 2;
/// Number of times that a batch is tried whose names are taken and free again.
const TRIES: usize = 5;

/// The command `import-users`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportUsers {
    /// File with one JSON object in each line. It is read more than once, and must not be readable
    /// by other users.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the file and change nothing.
    #[arg(long)]
    check: bool,
    /// Import the valid lines although others are invalid. Without it, a single invalid line keeps
    /// the whole file from being imported.
    #[arg(long, conflicts_with = "check")]
    skip_invalid: bool,
    /// Role that lines may give to users, beside `player`. Can be given several times. The roles
    /// superuser, service and guest cannot be given.
    #[arg(long, value_name = "ROLE")]
    allow_role: Vec<String>,
    /// Maximum number of invalid lines that are printed [1 to 1000000]. Further ones are only
    /// counted.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_errors: u32,
    /// Maximum memory of imported argon2 hashes (m), in KiB [65536 to 131072]. Until their users
    /// have logged in, each hashing worker of the service may need it. Django's default is 102400.
    #[arg(long, value_name = "KIB", default_value_t = HashLimits::DEFAULT.argon2_memory_kib)]
    #[arg(value_parser = clap::value_parser!(u32).range(65_536..=131_072))]
    max_argon2_memory_kib: u32,
    /// Maximum number of lanes of imported argon2 hashes (p) [4 to 16]. Django's default is 8.
    #[arg(long, value_name = "N", default_value_t = HashLimits::DEFAULT.argon2_lanes)]
    #[arg(value_parser = clap::value_parser!(u32).range(4..=16))]
    max_argon2_lanes: u32,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

/// Findings of the first reading of the file.
#[derive(Debug, Default)]
struct Checked {
    /// Number of lines that are not empty.
    users: u64,
    /// Numbers of the lines that cannot be imported.
    invalid: HashSet<u64>,
    /// SHA-256 of the file up to the end of each batch. Tells if the file is changed before it is
    /// read again.
    digests: Vec<Vec<u8>>,
}

/// An import in progress.
struct Import {
    file: ImportFile,
    rules: LineRules,
    users: UserImport,
    report: Report,
    skips_invalid: bool,
}

impl ImportUsers {
    /// Checks all lines, and then imports them. Goes on where an earlier import of the same file
    /// was interrupted. Can run while services use the same database.
    pub async fn run(self) -> Result<(), StartError> {
        self.secret_files.check([("FILE", Some(self.file.as_path()))])?;
        let clock = Clock::system();
        let rules = self.rules(clock.clone())?;
        let file = ImportFile::open(&self.file).map_err(|error| bad(&self.file.display().to_string(), &error))?;
        let db = super::open_beside(&self.database, self.secret_files).await?;
        let hashing = HashingPool::new(HashingSettings::default()).map_err(StartError::failed)?;
        let mut import = Import {
            report: Report::new(file.lines(), self.max_errors.into()),
            file,
            rules,
            users: UserImport { db, clock, hashing },
            skips_invalid: self.skip_invalid,
        };
        let before = import.users.progress(import.file.digest()).await;
        let before = before.map_err(|error| failed(&error))?;
        if let Some(finished) = before.as_ref().filter(|progress| progress.is_finished()) {
            print(&format!(
                "the file was imported already: {} users; nothing is left to do",
                finished.users
            ));
            return Ok(());
        }
        let done = before.as_ref().map_or(0, |progress| progress.done_lines);
        if done > 0 {
            print(&format!(
                "an earlier import of the file stopped after line {done}; this one goes on there"
            ));
        }
        let checked = import.check(done.unsigned_abs()).await?;
        import.report.end();
        if self.check {
            return end_of_check(&checked);
        }
        if !checked.invalid.is_empty() && !self.skip_invalid {
            return Err(StartError::Code(
                INVALID,
                format!(
                    "{}; nothing was imported; correct them, or pass --skip-invalid to import the others",
                    invalid_lines(checked.invalid.len())
                ),
            ));
        }
        import.write(before, checked).await
    }

    fn rules(&self, clock: Clock) -> Result<LineRules, StartError> {
        let mut allowed_roles = vec![ReservedRole::Player.code_name().to_owned()];
        for role in &self.allow_role {
            let given = format!("--allow-role {role}");
            let role: CodeName = role.parse().map_err(|error| bad(&given, &error))?;
            let role = role.into_string();
            let is_refused = [ReservedRole::Superuser, ReservedRole::Service, ReservedRole::Guest]
                .into_iter()
                .any(|refused| refused.is(&role));
            if is_refused {
                return Err(bad(&given, &"cannot be given by an import"));
            }
            allowed_roles.push(role);
        }
        Ok(LineRules {
            allowed_roles,
            limits: HashLimits {
                argon2_memory_kib: self.max_argon2_memory_kib,
                argon2_lanes: self.max_argon2_lanes,
            },
            clock,
        })
    }
}

impl Import {
    /// Reads the whole file and reports each invalid line. Lines up to `done` are not checked: they
    /// were imported or left out already, and the database has the names that they took.
    async fn check(&mut self, done: u64) -> Result<Checked, StartError> {
        let mut checked = Checked::default();
        let mut names = Names::default();
        let mut lines = self.file.read().map_err(|error| unreadable(&error))?;
        self.report.begin("checked");
        loop {
            let batch = lines.next_batch(BATCH).map_err(|error| unreadable(&error))?;
            checked.digests.push(lines.digest());
            let Some(last) = batch.last().map(|line| line.number) else {
                break;
            };
            let (mut users, mut rejected) = (Vec::new(), BTreeMap::new());
            for line in batch.into_iter().filter(|line| !line.is_empty()) {
                checked.users += 1;
                if line.number <= done {
                    continue;
                }
                match self.rules.parse(&line) {
                    Ok(user) => users.push(user),
                    Err(fields) => {
                        rejected.insert(line.number, fields);
                    }
                }
            }
            if !users.is_empty() {
                let taken = self.users.rejected(&users).await.map_err(|error| failed(&error))?;
                rejected.extend(taken.into_iter().map(|taken| (taken.line, taken.fields)));
            }
            for user in &users {
                let repeated = names.repeated_by(user);
                if !repeated.is_empty() {
                    rejected.entry(user.line).or_default().extend(repeated);
                }
                // A line that is not imported leaves its names to later ones.
                if !rejected.contains_key(&user.line) {
                    names.take(user);
                }
            }
            for (line, fields) in rejected {
                checked.invalid.insert(line);
                self.report.rejected(&Rejected { line, fields });
            }
            self.report.reached(last);
        }
        if lines.digest() == self.file.digest() {
            return Ok(checked);
        }
        Err(StartError::failed(
            "the file was changed while it was checked; nothing more was imported; run the command again",
        ))
    }

    /// Imports the lines that are not done yet.
    async fn write(&mut self, before: Option<ImportProgress>, mut checked: Checked) -> Result<(), StartError> {
        let start = Instant::now();
        let lines = i64::try_from(self.file.lines()).map_err(StartError::failed)?;
        let mut progress = if let Some(progress) = before {
            progress
        } else {
            let begun = self.users.begin(self.file.digest(), lines).await;
            begun.map_err(|error| failed(&error))?.ok_or_else(overtaken)?
        };
        let mut reading = self.file.read().map_err(|error| unreadable(&error))?;
        self.report.begin("imported");
        let mut reached = 0;
        for digest in mem::take(&mut checked.digests) {
            let batch = reading.next_batch(BATCH).map_err(|error| unreadable(&error))?;
            if reading.digest() != digest {
                return Err(changed(&progress));
            }
            let Some(last) = batch.last() else { break };
            reached = i64::try_from(last.number).map_err(StartError::failed)?;
            if reached <= progress.done_lines {
                continue;
            }
            let done = progress.done_lines.unsigned_abs();
            let mut users = Vec::new();
            for line in batch.into_iter().filter(|line| !line.is_empty() && line.number > done) {
                match self.rules.parse(&line) {
                    Ok(user) if !checked.invalid.contains(&user.line) => users.push(user),
                    Ok(_) => {}
                    Err(_) if checked.invalid.contains(&line.number) => {}
                    Err(_) => return Err(changed(&progress)),
                }
            }
            progress = self.write_batch(&progress, reached, users, &mut checked).await?;
            self.report.reached(reached.unsigned_abs());
        }
        self.report.end();
        if reached != lines || !progress.is_finished() {
            return Err(changed(&progress));
        }
        let seconds = start.elapsed().as_secs_f64();
        print(&format!("imported {} users in {seconds:.1} s", progress.users));
        if checked.invalid.is_empty() {
            return Ok(());
        }
        let text = format!("{}; the others were imported", invalid_lines(checked.invalid.len()));
        Err(StartError::Code(INVALID, text))
    }

    /// Imports one batch. Reports users whose names were taken since the check, and leaves them out
    /// if invalid lines are to be skipped.
    async fn write_batch(
        &mut self,
        before: &ImportProgress,
        done_lines: i64,
        mut users: Vec<ImportedUser>,
        checked: &mut Checked,
    ) -> Result<ImportProgress, StartError> {
        for _ in 0..TRIES {
            let start = Instant::now();
            let written = self.users.write(before, done_lines, &users).await;
            let rejected = match written.map_err(|error| stopped(before, &error))? {
                Imported::Done(after) => {
                    pause_after(start.elapsed()).await;
                    return Ok(after);
                }
                Imported::Overtaken => return Err(overtaken()),
                Imported::Rejected(rejected) => rejected,
            };
            for rejected in &rejected {
                self.report.rejected(rejected);
                checked.invalid.insert(rejected.line);
            }
            if !rejected.is_empty() && !self.skips_invalid {
                self.report.end();
                return Err(StartError::Code(
                    INVALID,
                    format!(
                        "stopped after line {}, because names were taken since the check; run the command again with \
                        --skip-invalid to go on there",
                        before.done_lines
                    ),
                ));
            }
            users.retain(|user| !checked.invalid.contains(&user.line));
        }
        Err(stopped(before, &"names were taken and free again, time after time"))
    }
}

fn end_of_check(checked: &Checked) -> Result<(), StartError> {
    if checked.invalid.is_empty() {
        print(&format!(
            "all {} users can be imported; nothing was changed",
            checked.users
        ));
        return Ok(());
    }
    let text = format!("{}; nothing was changed", invalid_lines(checked.invalid.len()));
    Err(StartError::Code(INVALID, text))
}

fn invalid_lines(count: usize) -> String {
    match count {
        1 => "1 line is invalid".to_owned(),
        count => format!("{count} lines are invalid"),
    }
}

fn stopped(before: &ImportProgress, error: &dyn std::fmt::Display) -> StartError {
    StartError::Failed(format!(
        "stopped after line {}: {error}; run the command again to go on there",
        before.done_lines
    ))
}

fn failed(error: &dyn std::fmt::Display) -> StartError {
    StartError::Failed(format!("cannot import the users: {error}"))
}

fn unreadable(error: &dyn std::fmt::Display) -> StartError {
    StartError::Failed(format!("cannot read the file: {error}"))
}

fn overtaken() -> StartError {
    StartError::failed("another process is importing the same file")
}

fn changed(before: &ImportProgress) -> StartError {
    StartError::Failed(format!(
        "stopped after line {}, because the file was changed since it was checked; restore the file and run the \
        command again to continue from there",
        before.done_lines
    ))
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(line: &str) {
    println!("{line}");
}
