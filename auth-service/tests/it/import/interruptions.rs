//! Imports that are interrupted, repeated, or made twice at the same time.

use db::Backend;
use testing::{TestDatabase, on_both_backends, program::Signal};

use super::{IMPORTED, Import, QUICK_HASH, jsonl, user, users};
use crate::{
    support::{Server, callers::eventually, count, execute},
    users::calls::login,
};

fn lines(count: usize) -> Vec<serde_json::Value> {
    (0..count)
        .map(|number| user(&format!("user-{number}"), QUICK_HASH))
        .collect()
}

#[on_both_backends]
async fn an_import_that_was_killed_goes_on_where_it_stopped(database: TestDatabase) {
    const USERS: usize = 6000;
    let server = Server::start(database).await;
    let db = server.database.db();
    let import = Import::into(&server);
    import.write(&jsonl(&lines(USERS)));
    for _ in 0..2 {
        let before = users(&server).await;
        let program = import.start(&[]);
        eventually(async || (users(&server).await > before).then_some(())).await;
        program.signal(Signal::Kill);
        assert_eq!(program.ended().await.code, None, "it was killed before it was done");
    }
    let done = count(db, "users").await;
    assert!(done % 500 == 0 && (1000..6000).contains(&done), "{done}: whole batches");
    assert_eq!(
        count(
            db,
            &format!("user_imports WHERE done_lines = {done} AND users = {done}")
        )
        .await,
        1
    );
    assert_eq!(count(db, "user_roles").await, done);
    let ended = import.start(&[]).ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = format!("an earlier import of the file stopped after line {done}; this one goes on there\n");
    assert!(ended.stdout.starts_with(&told), "{ended:?}");
    assert!(
        ended.stdout[told.len()..].starts_with("imported 6000 users in "),
        "{ended:?}"
    );
    for table in ["users", "user_roles", "imported_passwords"] {
        assert_eq!(count(db, table).await, 6000, "{table}");
    }
    assert_eq!(count(db, "audit_events WHERE action = 'user.import'").await, 2);
    login(&server, "user-5999", IMPORTED).await.expect("the last one");
    // Once more: there is nothing to do, whoever has changed meanwhile.
    execute(
        &server,
        "UPDATE users SET login_folded = 'renamed' WHERE login = 'user-7'",
    )
    .await;
    let again = import.start(&[]).ended().await;
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (
            Some(0),
            "the file was imported already: 6000 users; nothing is left to do\n"
        )
    );
}

#[on_both_backends]
async fn a_file_that_differs_is_another_import(database: TestDatabase) {
    let server = Server::start(database).await;
    let import = Import::into(&server);
    import.succeed(&lines(3), &[]).await;
    let ended = import.run(&lines(4), &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("line 1: login is taken; email is taken\nline 2: login is taken; email is taken\n"),
        "{ended:?}"
    );
    let ended = import.run(&lines(4), &["--skip-invalid"]).await;
    assert!(ended.stdout.contains("imported 1 users in "), "{ended:?}");
    assert_eq!(users(&server).await, 4);
}

#[on_both_backends]
async fn two_imports_of_one_file_import_each_line_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let import = Import::into(&server);
    import.write(&jsonl(&lines(2500)));
    let programs = [import.start(&[]), import.start(&[])];
    let mut succeeded = 0;
    for program in programs {
        let ended = program.ended().await;
        if ended.code == Some(0) {
            succeeded += 1;
        } else {
            // The one that comes second finds that the other was quicker, or the names that the
            // other has imported.
            let is_known = ended.stderr.contains("another process is importing the same file")
                || ended.stderr.contains("is taken");
            assert!(is_known, "{ended:?}");
        }
    }
    assert!(succeeded >= 1);
    assert_eq!(users(&server).await, 2500);
    assert_eq!(count(server.database.db(), "user_imports WHERE users = 2500").await, 1);
}

/// Gives `ann` the login `user-3` as soon as the file was checked and the import begins.
async fn take_a_name_after_the_check(server: &Server) {
    let take = "UPDATE users SET login_folded = 'user-3' WHERE login = 'ann'";
    match server.database.backend() {
        Backend::Sqlite => {
            let sql = format!("CREATE TRIGGER taking AFTER INSERT ON user_imports BEGIN {take}; END");
            execute(server, &sql).await;
        }
        Backend::Postgres => {
            let function = format!(
                "CREATE FUNCTION taking() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {take}; RETURN NEW; END $$"
            );
            execute(server, &function).await;
            let sql = "CREATE TRIGGER taking AFTER INSERT ON user_imports FOR EACH ROW EXECUTE FUNCTION taking()";
            execute(server, sql).await;
        }
    }
}

#[on_both_backends]
async fn a_name_that_is_taken_after_the_check_stops_the_import_before_its_batch(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    take_a_name_after_the_check(&server).await;
    let import = Import::into(&server);
    import.write(&jsonl(&lines(600)));
    let ended = import.start(&[]).ended().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("line 4: login is taken\nerror: stopped after line 0, because names were taken"),
        "{ended:?}"
    );
    assert_eq!(users(&server).await, 1);
    let ended = import.start(&["--skip-invalid"]).ended().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stdout.contains("imported 599 users in "), "{ended:?}");
    assert_eq!(users(&server).await, 600);
}

#[on_both_backends]
async fn an_import_leaves_out_a_name_that_is_taken_after_the_check(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    take_a_name_after_the_check(&server).await;
    let ended = Import::into(&server).run(&lines(600), &["--skip-invalid"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(
        ended.stderr, "line 4: login is taken\nerror: 1 line is invalid; the others were imported\n",
        "{ended:?}"
    );
    assert_eq!(users(&server).await, 600);
}
