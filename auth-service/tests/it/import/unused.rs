//! `imported-passwords`: imported hashes that are left, and the removal of those that nobody uses.

use base::clock::Clock;
use serde_json::json;
use testing::{
    TestDatabase, on_both_backends,
    program::{Ended, Program},
};
use tonic::Code;

use super::{IMPORTED, Import, QUICK_HASH, user, with};
use crate::{
    program::start::AUTH_SERVICE,
    support::{
        Server,
        callers::{is, refusal},
        count, execute,
    },
    users::calls::login,
};

/// Bcrypt, made by PHP from [`IMPORTED`].
const OTHER_HASH: &str = "$2y$10$JqUlAvNH0e8JiPCFpFAm4uJ98IZl6JhgZiEkvQBpEoztuyjWns5qm";
/// A date after the old users of these tests were imported, and before the others were.
const DATE: [&str; 2] = ["--unused-since", "2024-06-01"];

async fn imported_passwords(import: &Import, more: &[&str]) -> Ended {
    let own = ["imported-passwords", "--database-url", &import.url];
    Program::start(AUTH_SERVICE, [&own[..], more].concat()).ended().await
}

/// Checks the lines that the command prints, without the time that it names.
fn assert_prints(ended: &Ended, expected: &[&str]) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let lines: Vec<&str> = ended
        .stdout
        .lines()
        .map(|line| line.split_once(" since ").map_or(line, |(start, _)| start))
        .collect();
    assert_eq!(lines, expected);
}

#[on_both_backends]
async fn hashes_that_nobody_uses_are_counted_and_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    let db = server.database.db();
    let import = Import::into(&server);
    assert_prints(
        &imported_passwords(&import, &[]).await,
        &["no imported password hash is left"],
    );
    let old = json!({"create_time": "2014-05-17T10:30:00Z"});
    let lines = [
        with(user("ann", QUICK_HASH), old.clone()),
        with(user("bob", QUICK_HASH), old.clone()),
        user("cleo", QUICK_HASH),
        with(user("dan", OTHER_HASH), json!({"is_active": false})),
    ];
    import.succeed(&lines, &[]).await;
    // No user has logged in, but the import is recent.
    let remove = [DATE[0], DATE[1], "--remove"];
    assert_prints(
        &imported_passwords(&import, &remove).await,
        &[
            "bcrypt:10: 1 left, 0 not used",
            "pbkdf2-sha256:10000: 3 left, 0 not used",
            "removed 0 hashes",
        ],
    );
    // Ann, Bob and Dan were imported long ago. Bob's hash was used lately, but could not be
    // replaced.
    let times = "import_time = (SELECT create_time FROM users WHERE login = 'ann')";
    execute(&server, &format!("UPDATE users SET {times} WHERE login <> 'cleo'")).await;
    execute(
        &server,
        "UPDATE users SET last_login_time = update_time WHERE login = 'bob'",
    )
    .await;
    let left = [
        "bcrypt:10: 1 left, 1 not used",
        "pbkdf2-sha256:10000: 3 left, 1 not used",
    ];
    for since in [&[][..], &DATE] {
        assert_prints(&imported_passwords(&import, since).await, &left);
    }
    assert_eq!(count(db, "imported_passwords").await, 4);
    assert_prints(
        &imported_passwords(&import, &remove).await,
        &[left[0], left[1], "removed 2 hashes"],
    );
    assert_eq!(count(db, "imported_passwords").await, 2);
    let removed = "audit_events WHERE action = 'user.remove_imported_password' AND actor_client_id = 'command-line'";
    assert_eq!(count(db, removed).await, 2);
    // Only the hash is gone. An administrator or a mail gives Ann a new password.
    let refused = login(&server, "ann", IMPORTED).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    assert_eq!(count(db, "users").await, 4);
    login(&server, "bob", IMPORTED).await.expect("used lately");
    // Since this moment, nobody has used one.
    let now = prost_types::Timestamp::from(Clock::system().now()).to_string();
    assert_prints(
        &imported_passwords(&import, &["--unused-since", &now, "--remove"]).await,
        &["pbkdf2-sha256:10000: 1 left, 1 not used", "removed 1 hash"],
    );
    assert_eq!(count(db, "imported_passwords").await, 0);
    let refused = login(&server, "cleo", IMPORTED).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
}

/// A hash that is removed does not come back, so the clock does not choose which ones are.
#[on_both_backends]
async fn nothing_is_removed_without_a_date(database: TestDatabase) {
    let server = Server::start(database).await;
    let import = Import::into(&server);
    import.succeed(&[user("ann", QUICK_HASH)], &[]).await;
    for (more, words) in [
        ("--remove", "--unused-since"),
        ("--remove --unused-since yesterday", "a date such as 2026-06-01"),
        ("--remove --unused-since 2026-02-30", "a date such as 2026-06-01"),
        ("--remove --unused-since 2999-01-01", "must not be in the future"),
    ] {
        let refused = imported_passwords(&import, &more.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    assert_eq!(count(server.database.db(), "imported_passwords").await, 1);
}
