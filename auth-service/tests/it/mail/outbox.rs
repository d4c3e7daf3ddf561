//! Mails wait in the database until they are sent.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use testing::{TestDatabase, on_both_backends, rpc::with_token};

use super::{MailServer, NEW, becomes_true, read, request_reset};
use crate::{
    support::{PASSWORD, settings},
    users::calls::change,
};

#[on_both_backends]
async fn a_change_of_the_password_is_announced_in_its_transaction(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let token = mails.server.register("ann").await.tokens.expect("tokens").access_token;
    let mut account = mails.server.account();
    let refused = account
        .change_password(with_token(change("wrong horse", NEW), &token))
        .await;
    refused.expect_err("refused");
    account
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await
        .expect("changed");
    let [notice] = &mails.mails(1).await[..] else {
        panic!("one mail")
    };
    assert!(notice.header("Subject").contains("has changed"), "{}", notice.text);
    assert!(notice.text.contains("from the IP address 127.0.0.1"), "{}", notice.text);
    assert_eq!(notice.header("Auto-Submitted"), "auto-generated");
    let mode = fs::metadata(&notice.path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[on_both_backends]
async fn a_mail_that_cannot_be_sent_is_sent_later_and_once(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    // A file in the place of the folder makes every attempt fail.
    let folder = mails.folder.path();
    fs::remove_dir(folder).expect("removed");
    fs::write(folder, "").expect("written");
    request_reset(&mut server.auth(), "ann").await.expect("asked");
    let attempts = async || {
        let mut conn = server.database.db().read().await.expect("a connection");
        let rows: db::Result<Vec<Attempts>> = db::query!(&mut conn, |c| diesel_async::RunQueryDsl::load(
            diesel::sql_query("SELECT attempts FROM mail_outbox"),
            c
        )
        .await);
        rows.expect("rows").first().map_or(0, |row| row.attempts)
    };
    becomes_true(async || {
        server.clock.advance(Duration::from_secs(2));
        attempts().await >= 2
    })
    .await;
    fs::remove_file(folder).expect("removed");
    fs::create_dir(folder).expect("made");
    becomes_true(async || {
        server.clock.advance(Duration::from_secs(2));
        !read(folder).is_empty()
    })
    .await;
    let [mail] = &mails.mails(1).await[..] else {
        panic!("one mail")
    };
    let name = mail.path.file_stem().expect("a name").to_string_lossy().into_owned();
    let id = &name[name.len() - 36..];
    assert_eq!(mail.header("Message-ID"), format!("<{id}@localhost>"));
}

#[on_both_backends]
async fn notices_to_one_address_are_limited(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let mut token = server.register("ann").await.tokens.expect("tokens").access_token;
    let passwords = [
        PASSWORD, "horse 1", "horse 2", "horse 3", "horse 4", "horse 5", "horse 6", "horse 7",
    ];
    for pair in passwords.windows(2) {
        let request = with_token(change(&format!("{:8}", pair[0]), &format!("{:8}", pair[1])), &token);
        let changed = server.account().change_password(request).await.expect("changed");
        token = changed.into_inner().tokens.expect("tokens").access_token;
    }
    assert_eq!(mails.answered("marker", 5).await.len(), 5);
    // They do not use up the mails with codes.
    assert_eq!(mails.request("ann", 6).await.recipient(), "ann@example.test");
}

#[on_both_backends]
async fn requests_outlive_a_restart(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    server.running.stop().await.expect("stopped");
    // A replica without a mail server stores nothing, so that nothing waits for ever.
    let (running, mut client) = server.replica_ahead(0, &settings(&[])).await;
    request_reset(&mut client, "ann").await.expect_err("refused");
    running.stop().await.expect("stopped");
    let mut replica = mails.replica().await;
    request_reset(&mut replica, "ann").await.expect("asked");
    assert_eq!(mails.mails(1).await[0].recipient(), "ann@example.test");
}

#[derive(diesel::QueryableByName)]
struct Attempts {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    attempts: i64,
}
