//! Lines that are refused, and what the command says of them.

use serde_json::json;
use testing::{TestDatabase, on_both_backends};

use super::{IMPORTED, Import, QUICK_HASH, user, users, with};
use crate::{
    support::{Server, callers::eventually, count},
    users::calls::login,
};

/// Hostile or damaged lines, each with what the command says of it.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let text = |text: String| text.into_bytes();
    let line = |login: &str, more| text(with(user(login, QUICK_HASH), more).to_string());
    let hash = |hash: &str| text(user("hash", hash).to_string());
    let deep = format!(r#"{{"login": {}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    vec![
        (
            b"login,email".to_vec(),
            "the line must be one JSON object, not nested deeply; see column 1",
        ),
        (b"[]".to_vec(), "the line must be one JSON object"),
        (b"{}".to_vec(), "login is required; email is required"),
        (b"{\"login\": \"ann\"".to_vec(), "the line must be one JSON object"),
        (b"{} {}".to_vec(), "the line must be one JSON object"),
        (
            text(deep),
            "the line must be one JSON object, not nested deeply; see column 1",
        ),
        (
            b"{\"login\": \"\xff\"}".to_vec(),
            "the line must be UTF-8, which it is not at byte 12",
        ),
        (vec![b' '; 70_000], "the line must be at most 65536 bytes"),
        (
            text(format!("\"{}\"", "x".repeat(1_000_000))),
            "the line must be at most 65536 bytes",
        ),
        (
            br#"{"login": "twice", "login": "other", "email": "twice@example.test"}"#.to_vec(),
            "login must not be given twice",
        ),
        // Every bad field is named.
        (
            line(
                "a\0b",
                json!({"email": 7, "email_verified": "yes", "is_active": 1, "roles": "player", "first_name": "a\nb",
                "last_name": "x".repeat(101), "middle_name": [], "locale": "not a locale", "create_time": "yesterday",
                "password_hash": true, "user_id": "00000000-0000-7000-8000-000000000000"}),
            ),
            "\"user_id\" is not a field of an import; login must be 3 to 32 of the characters A-Z a-z 0-9 _ . -; \
            email must be a text; email_verified must be true or false; password_hash must be a text; first_name \
            must not contain control characters or invisible characters; last_name must be at most 100 \
            characters; middle_name must be a text; locale must be a BCP 47 language tag such as en or pt-BR; \
            create_time must be a time such as 2024-05-17T08:30:00Z; is_active must be true or false; roles must \
            be an array of at most 50 texts",
        ),
        (
            line("nul", json!({"email": "a\0b@example.test"})),
            "email must be an e-mail address",
        ),
        (line("guest-1", json!({})), "login must not begin with guest-"),
        (
            line("nomail", json!({"email": "a@b.invalid"})),
            "email must be an address that can receive mail",
        ),
        (
            line("future", json!({"create_time": "2999-01-01T00:00:00Z"})),
            "create_time must not be in the future",
        ),
        (
            line("past", json!({"create_time": "1066-10-14T00:00:00Z"})),
            "create_time must be a time of the years 1970 to 9999",
        ),
        (
            line("root", json!({"roles": ["superuser"]})),
            "roles[0] must not be superuser, which no import can give",
        ),
        (
            line("svc", json!({"roles": ["player", "service"]})),
            "roles[1] must not be service, which no import can give",
        ),
        (
            line("gst", json!({"roles": ["guest"]})),
            "roles[0] must not be guest, which no import can give",
        ),
        (
            line("adm", json!({"roles": ["admin"]})),
            "roles[0] must not be admin unless --allow-role admin is passed",
        ),
        (
            line("rol", json!({"roles": ["Admin", 7, "ghost"]})),
            "roles[0] must be 2 to 64 of the characters a-z 0-9 _ and begin with a letter; roles[1] must be a text",
        ),
        (
            line("unk", json!({"roles": ["ghost"]})),
            "roles names ghost, and there is no such role",
        ),
        (
            line("esc", json!({"\u{1b}[2J": true})),
            "\"\\u{1b}[2J\" is not a field of an import",
        ),
        (
            line("sup", json!({"is_superuser": true})),
            "\"is_superuser\" is not a field of an import",
        ),
        (
            hash("$2b$31$D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6"),
            "password_hash has 31 as the cost of bcrypt, and at most 14 are accepted",
        ),
        (
            hash("pbkdf2_sha256$2147483648$saltsaltsalt$B7SMkouvDBcKdr1WfPyn+2JGT+RjJTqm0g/VaV97lcs="),
            "password_hash has 2147483648 PBKDF2 iterations, and at most 2000000 are accepted",
        ),
        (
            hash("pbkdf2_sha256$1$saltsaltsalt$B7SMkouvDBcKdr1WfPyn+2JGT+RjJTqm0g/VaV97lcs="),
            "password_hash is too weak: it has 1 PBKDF2 iterations, and at least 10000 are required; import the user \
            without a password",
        ),
        (
            hash("pbkdf2_sha256$10000$saltsaltsalt$B7SM"),
            "password_hash is not a complete hash of pbkdf2_sha256",
        ),
        (
            hash("5f4dcc3b5aa765d61d8327deb882cf99"),
            "password_hash must be a hash of pbkdf2, bcrypt, scrypt or argon2",
        ),
        (
            hash("correct horse"),
            "password_hash must be a hash of pbkdf2, bcrypt, scrypt or argon2",
        ),
        // The same user in two lines, in other spellings.
        (
            line("GOOD", json!({"email": "Good@EXAMPLE.test"})),
            "login is the same as in line 1; email is the same as in line 1",
        ),
    ]
}

#[on_both_backends]
async fn every_bad_line_is_reported_with_every_bad_field_and_nothing_is_imported(database: TestDatabase) {
    let server = Server::start(database).await;
    let import = Import::into(&server);
    let bad = bad_lines();
    let mut content = format!("{}\r\n\n", user("good", QUICK_HASH)).into_bytes();
    for (line, _) in &bad {
        content.extend_from_slice(line);
        content.push(b'\n');
    }
    std::fs::write(import.file(), &content).expect("written");
    std::fs::set_permissions(import.file(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let ended = import.start(&["--allow-role", "ghost"]).ended().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let mut said = ended.stderr.lines();
    for (index, (line, words)) in bad.iter().enumerate() {
        let told = said.next().unwrap_or_default();
        let number = index + 3;
        let start: String = String::from_utf8_lossy(line).chars().take(80).collect();
        assert!(
            told.starts_with(&format!("line {number}: ")) && told.contains(words),
            "{told}\n{words}\n{start}"
        );
        assert!(!told.contains('\u{1b}') && told.len() < 1500, "{told}");
    }
    let last = format!("error: {} lines are invalid; nothing was imported;", bad.len());
    assert!(said.next().unwrap_or_default().starts_with(&last), "{ended:?}");
    assert_eq!(said.next(), None);
    assert_eq!(
        (users(&server).await, count(server.database.db(), "user_imports").await),
        (0, 0)
    );
    // A bound on what is printed, but not on what is counted.
    let ended = import.start(&["--check", "--max-errors", "2"]).ended().await;
    let said: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!((ended.code, said.len()), (Some(2), 4), "{ended:?}");
    assert_eq!(said[2], "further invalid lines are counted but not shown");
    // Without the flag, the role is refused before it is looked for; and one less line is in doubt.
    let ended = import.start(&["--skip-invalid"]).ended().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stdout.starts_with("imported 1 users in "), "{ended:?}");
    login(&server, "good", IMPORTED).await.expect("the valid line");
    assert_eq!(users(&server).await, 1);
}

#[on_both_backends]
async fn names_that_users_have_are_reported_by_line(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    server.register("bob").await;
    let import = Import::into(&server);
    let lines = [
        user("new", QUICK_HASH),
        user("ANN", QUICK_HASH),
        with(user("other", QUICK_HASH), json!({"email": "BOB@example.TEST"})),
    ];
    let refused = import.run(&lines, &[]).await;
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .stderr
            .starts_with("line 2: login is taken; email is taken\nline 3: email is taken\nerror: 2 lines are invalid"),
        "{refused:?}"
    );
    assert_eq!(users(&server).await, 2);
    // The command can be told to leave them out.
    let skipped = import.run(&lines, &["--skip-invalid"]).await;
    assert_eq!(skipped.code, Some(2), "{skipped:?}");
    assert!(skipped.stdout.contains("imported 1 users in "), "{skipped:?}");
    assert!(
        skipped
            .stderr
            .ends_with("error: 2 lines are invalid; the others were imported\n"),
        "{skipped:?}"
    );
    login(&server, "new", IMPORTED).await.expect("the new user");
    login(&server, "ann", crate::support::PASSWORD)
        .await
        .expect("unchanged");
}

/// A line that is left out keeps no name from a later line, whatever it is left out for.
#[on_both_backends]
async fn an_invalid_line_takes_no_name(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    let import = Import::into(&server);
    let address = |login: &str, email: &str| with(user(login, QUICK_HASH), json!({"email": email}));
    let lines = [
        address("ann", "one@example.test"),
        address("bob", "ann@example.test"),
        with(address("cleo", "two@example.test"), json!({"roles": ["ghost"]})),
        address("bob", "one@example.test"),
        // The login is that of a line that is imported, so the address remains free.
        address("BOB", "three@example.test"),
        address("cleo", "TWO@example.test"),
        address("dan", "three@example.test"),
    ];
    let told = "line 1: login is taken\nline 2: email is taken\nline 3: roles names ghost, and there is no such role\n\
        line 5: login is the same as in line 4\nerror: 4 lines are invalid";
    let refused = import.run(&lines, &["--allow-role", "ghost"]).await;
    assert!(refused.stderr.starts_with(told), "{refused:?}");
    let skipped = import.run(&lines, &["--allow-role", "ghost", "--skip-invalid"]).await;
    assert!(skipped.stderr.starts_with(told), "{skipped:?}");
    assert!(skipped.stdout.contains("imported 3 users in "), "{skipped:?}");
    for name in ["bob", "cleo", "dan"] {
        login(&server, name, IMPORTED).await.expect("a valid line");
    }
}

#[on_both_backends]
async fn a_check_changes_nothing(database: TestDatabase) {
    let server = Server::start(database).await;
    let import = Import::into(&server);
    let ended = import
        .run(&[user("ann", QUICK_HASH), user("bob", "")], &["--check"])
        .await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.stdout, "all 2 users can be imported; nothing was changed\n");
    for table in ["users", "user_imports", "imported_passwords", "audit_events"] {
        assert_eq!(count(server.database.db(), table).await, 0, "{table}");
    }
}

#[on_both_backends]
async fn bad_settings_of_an_import_are_reported(database: TestDatabase) {
    let server = Server::start(database).await;
    let import = Import::into(&server);
    let ended = import.start(&[]).ended().await;
    assert!(ended.only_line(64).contains("users.jsonl"), "{ended:?}");
    import.write(&user("ann", QUICK_HASH).to_string());
    for (arguments, words) in [
        (
            ["--allow-role", "superuser"],
            "--allow-role superuser: cannot be given by an import",
        ),
        (
            ["--allow-role", "guest"],
            "--allow-role guest: cannot be given by an import",
        ),
        (["--allow-role", "No"], "--allow-role No: must be 2 to 64"),
    ] {
        let ended = import.start(&arguments).ended().await;
        assert!(ended.only_line(64).contains(words), "{ended:?}");
    }
    std::fs::set_permissions(import.file(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("its mode");
    let ended = import.start(&[]).ended().await;
    assert!(ended.only_line(64).contains("chmod g-w,o-rwx"), "{ended:?}");
    assert_eq!(users(&server).await, 0);
}

/// The service goes on while users are imported, also on SQLite.
#[on_both_backends]
async fn users_register_and_log_in_while_others_are_imported(database: TestDatabase) {
    let server = Server::start_with(
        database,
        &crate::support::settings(&["--registration-rate-per-minute", "0"]),
    )
    .await;
    let lines: Vec<_> = (0..3000)
        .map(|number| user(&format!("imported-{number}"), QUICK_HASH))
        .collect();
    let import = Import::into(&server);
    import.write(&super::jsonl(&lines));
    let program = import.start(&[]);
    eventually(async || (count(server.database.db(), "user_imports").await == 1).then_some(())).await;
    let mut registered = 0;
    while count(server.database.db(), "user_imports WHERE done_lines < lines").await == 1 {
        server.register(&format!("registered-{registered}")).await;
        registered += 1;
    }
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(registered > 0);
    assert_eq!(users(&server).await, 3000 + registered);
    login(&server, "imported-2999", IMPORTED).await.expect("imported");
    server.login("registered-0").await;
}
