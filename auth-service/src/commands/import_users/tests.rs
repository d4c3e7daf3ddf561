//! Tests of files that are changed while they are imported.

use std::{fmt::Write as _, fs, path::Path};

use testing::{TestDatabase, on_both_backends};

use super::*;

/// Returns the lines of this many users, each of the same length.
fn content(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let line = format!(r#"{{"login": "user-{number:05}", "email": "user-{number:05}@example.test"}}"#);
        writeln!(text, "{line}").expect("a String takes it");
        text
    })
}

fn import(database: &TestDatabase, file: &Path) -> Import {
    let clock = Clock::system();
    let file = ImportFile::open(file).expect("a file");
    Import {
        report: Report::new(file.lines(), 100),
        file,
        rules: LineRules {
            allowed_roles: vec![ReservedRole::Player.code_name().to_owned()],
            limits: HashLimits::DEFAULT,
            clock: clock.clone(),
        },
        users: UserImport {
            db: database.db().clone(),
            clock,
            hashing: HashingPool::new(HashingSettings::default()).expect("good settings"),
        },
        skips_invalid: true,
    }
}

/// Returns how many lines are done, all of which have become users.
async fn imported(import: &Import) -> (Option<ImportProgress>, u64) {
    let progress = import.users.progress(import.file.digest()).await.expect("read");
    let done = progress.as_ref().map_or(0, |progress| {
        assert_eq!(progress.users, progress.done_lines);
        progress.done_lines.unsigned_abs()
    });
    (progress, done)
}

#[on_both_backends]
async fn a_file_that_is_changed_after_the_check_is_not_imported_from_there_on(database: TestDatabase) {
    const LINES: usize = 1200;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.jsonl");
    let good = content(LINES);
    // Another user in the last line of the second batch; a line less; a line more.
    let other = good.replace("user-00999", "user-99999");
    let (shorter, longer) = (content(LINES - 1), content(LINES + 1));
    let mut done = 0;
    for (changed, reached) in [(other, 500), (shorter, 1000), (longer, 1000)] {
        fs::write(&path, &good).expect("written");
        let mut import = import(&database, &path);
        let (before, done_before) = imported(&import).await;
        assert_eq!(done_before, done);
        let checked = import.check(done).await.expect("checked");
        assert_eq!(checked.invalid.len(), 0);
        fs::write(&path, changed).expect("written");
        let error = import.write(before, checked).await.expect_err("changed").to_string();
        let told = format!("stopped after line {reached}, because the file was changed since it was checked");
        assert!(error.starts_with(&told), "{error}");
        done = imported(&import).await.1;
        assert_eq!(done, reached);
    }
    // With the file as it was, the import goes on.
    fs::write(&path, &good).expect("written");
    let mut import = import(&database, &path);
    let (before, done) = imported(&import).await;
    let checked = import.check(done).await.expect("checked");
    import.write(before, checked).await.expect("imported");
    assert_eq!(imported(&import).await.1, LINES as u64);
}

#[on_both_backends]
async fn a_file_that_is_changed_before_the_check_is_not_imported(database: TestDatabase) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.jsonl");
    fs::write(&path, content(3)).expect("written");
    let mut import = import(&database, &path);
    fs::write(&path, content(4)).expect("written");
    let error = import.check(0).await.expect_err("changed").to_string();
    assert!(
        error.starts_with("the file was changed while it was checked"),
        "{error}"
    );
}
