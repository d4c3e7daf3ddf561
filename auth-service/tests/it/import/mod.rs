//! `import-users`: users from another system, with their password hashes.

mod interruptions;
mod lines;
mod logins;
mod timing;
mod unused;

use std::{fmt::Write as _, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use testing::{
    TestDatabase,
    program::{Ended, Program},
    write_secret,
};

use crate::{
    program::start::AUTH_SERVICE,
    support::{Server, count},
};

/// Password of all users that the tests import.
const IMPORTED: &str = "zażółć gęślą jaźń";
/// Hash of [`IMPORTED`] as Django 1.4 made it:
///
/// ```text
/// from django.contrib.auth.hashers import PBKDF2PasswordHasher
/// PBKDF2PasswordHasher().encode("zażółć gęślą jaźń", "saltsaltsalt", iterations=10000)
/// ```
const QUICK_HASH: &str = "pbkdf2_sha256$10000$saltsaltsalt$B7SMkouvDBcKdr1WfPyn+2JGT+RjJTqm0g/VaV97lcs=";

/// A file to import, and the database to import it into.
struct Import {
    folder: TempDir,
    url: String,
}

impl Import {
    fn into(server: &Server) -> Self {
        Self::at(&server.database)
    }

    fn at(database: &TestDatabase) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            url: database.url().to_owned(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users.jsonl")
    }

    fn write(&self, content: &str) {
        write_secret(self.file(), content);
    }

    /// Starts the command with the file as it is.
    fn start(&self, more: &[&str]) -> Program {
        let file = self.file();
        let own = [
            "import-users",
            file.to_str().expect("UTF-8"),
            "--database-url",
            &self.url,
        ];
        Program::start(AUTH_SERVICE, [&own[..], more].concat())
    }

    /// Imports these lines.
    async fn run(&self, lines: &[Value], more: &[&str]) -> Ended {
        self.write(&jsonl(lines));
        self.start(more).ended().await
    }

    /// Imports these lines, all of which are valid.
    async fn succeed(&self, lines: &[Value], more: &[&str]) {
        let ended = self.run(lines, more).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    }
}

fn jsonl(lines: &[Value]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("a String takes it");
        text
    })
}

/// Returns a line with this login and password hash.
fn user(login: &str, hash: &str) -> Value {
    json!({"login": login, "email": format!("{login}@example.test"), "password_hash": hash})
}

/// Returns a line with more members.
fn with(mut line: Value, more: Value) -> Value {
    let (Value::Object(members), Value::Object(more)) = (&mut line, more) else {
        panic!("two objects")
    };
    members.extend(more);
    line
}

async fn users(server: &Server) -> i64 {
    count(server.database.db(), "users").await
}
