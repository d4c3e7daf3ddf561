//! The program on its own: settings and help. Its work with auth-service is tested through the
//! gateway (`deploy/tests/test_courses.py`).

use std::process::{Command, Output};

fn courses(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_courses"))
        .args(arguments)
        .env_clear()
        .output()
        .expect("started")
}

#[test]
fn a_start_without_credentials_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("courses.db").display());
    let output = courses(&[
        "--database-url",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ]);
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("error: --auth-client-id is required"), "{error}");
}

#[test]
fn help_lists_the_settings() {
    let output = courses(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for setting in [
        "--listen",
        "--database-url",
        "--auth-client-secret-file",
        "--access-feed-silence-seconds",
    ] {
        assert!(help.contains(setting), "{setting}");
    }
}
