//! Logins: identifiers, credentials, and the queue for password hashing.

use db::{query, write_tx};
use proto::auth::v1::LoginRequest;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason},
};
use tonic::Code;

use crate::support::{PASSWORD, Server, credentials, settings};

#[on_both_backends]
async fn login_and_address_are_accepted_in_any_case(database: TestDatabase) {
    let server = Server::start(database).await;
    let registered = server.register("Ann").await.user.expect("a user");
    for identifier in ["Ann", "ann", " ANN ", "ann@example.test", "ANN@EXAMPLE.TEST"] {
        let user = server
            .auth()
            .login(credentials(identifier, PASSWORD))
            .await
            .expect(identifier)
            .into_inner()
            .user;
        assert_eq!(user.expect("a user").user_id, registered.user_id);
    }
}

#[on_both_backends]
async fn a_password_is_the_same_in_every_unicode_form(database: TestDatabase) {
    let server = Server::start(database).await;
    let composed = "caf\u{e9}-caf\u{e9}".to_owned();
    let request = proto::auth::v1::RegisterRequest {
        password: composed.clone(),
        password_confirmation: composed,
        ..crate::support::registration("ann")
    };
    server.auth().register(request).await.expect("registered");
    server
        .auth()
        .login(credentials("ann", "cafe\u{301}-cafe\u{301}"))
        .await
        .expect("the same password");
}

#[on_both_backends]
async fn a_refused_login_does_not_reveal_whether_the_user_exists(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    let mut answers = Vec::new();
    for identifier in [
        "ann",
        "ann@example.test",
        "nobody",
        "nobody@example.test",
        "not a login!",
    ] {
        let refused = server
            .auth()
            .login(credentials(identifier, "wrong horse"))
            .await
            .expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned())
        );
        answers.push(refused.message().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[on_both_backends]
async fn an_inactive_user_is_refused_like_an_unknown_one(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    deactivate_all(&server).await;
    let refused = server
        .auth()
        .login(credentials("ann", PASSWORD))
        .await
        .expect_err("refused");
    assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
}

#[on_both_backends]
async fn malformed_credentials_are_refused_without_hashing(database: TestDatabase) {
    // Nothing can be hashed while the only worker is busy and the queue has no room.
    let slow = [
        "--hashing-workers",
        "1",
        "--hashing-queue",
        "0",
        "--hashing-memory-kib",
        "262144",
        "--hashing-passes",
        "8",
    ];
    let server = Server::start_with(database, &settings(&slow)).await;
    let (_, hashing) = server.refuse_one_of_two_logins().await;
    let refused = server
        .auth()
        .login(credentials("ann\0", "correct horse"))
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&refused), ["identifier"]);
    let refused = server.auth().login(LoginRequest::default()).await.expect_err("refused");
    assert_eq!(
        (refused.code(), bad_fields(&refused)),
        (
            Code::InvalidArgument,
            vec!["identifier".to_owned(), "password".to_owned()]
        )
    );
    let refused = server
        .auth()
        .login(credentials(&"x".repeat(2000), &"x".repeat(600)))
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&refused), ["identifier", "password"]);
    assert!(!hashing.is_finished(), "the hash was too fast for this test");
    hashing.await.expect("joined");
}

#[on_both_backends]
async fn a_login_refused_by_the_full_queue_runs_no_statement(database: TestDatabase) {
    let slow = [
        "--hashing-workers",
        "1",
        "--hashing-queue",
        "0",
        "--hashing-memory-kib",
        "262144",
        "--hashing-passes",
        "8",
    ];
    let server = Server::start_with(database, &settings(&slow)).await;
    let (_, hashing) = server.refuse_one_of_two_logins().await;
    let hidden: db::Result<()> = write_tx!(server.database.db(), |tx| {
        query!(tx, |c| diesel_async::SimpleAsyncConnection::batch_execute(
            c,
            "ALTER TABLE users RENAME TO hidden"
        )
        .await)
    });
    hidden.expect("hidden");
    let refused = server
        .auth()
        .login(credentials("nobody", "wrong horse"))
        .await
        .expect_err("refused");
    assert_eq!(reason(&refused), "HASHING_QUEUE_FULL");
    assert!(!hashing.is_finished(), "the hash was too fast for this test");
    hashing.await.expect("joined");
}

#[on_both_backends]
async fn concurrent_logins_all_succeed_while_one_of_them_upgrades_the_hash(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    let dearer = settings(&["--hashing-memory-kib", "4096", "--hashing-workers", "4"]);
    let (_running, client) = server.replica_ahead(0, &dearer).await;
    let logins = (0..8).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.login(credentials("ann", PASSWORD)).await })
    });
    for login in logins.collect::<Vec<_>>() {
        login.await.expect("joined").expect("logged in");
    }
}

#[on_both_backends]
async fn a_full_hashing_queue_says_when_to_retry(database: TestDatabase) {
    let narrow = settings(&[
        "--hashing-workers",
        "1",
        "--hashing-queue",
        "0",
        "--hashing-memory-kib",
        "65536",
    ]);
    let server = Server::start_with(database, &narrow).await;
    let storm = (0..8).map(|_| {
        let mut client = server.auth();
        tokio::spawn(async move { client.login(credentials("nobody", "wrong horse")).await })
    });
    let mut refused = 0;
    for login in storm.collect::<Vec<_>>() {
        let status = login.await.expect("joined").expect_err("nobody");
        match reason(&status).as_str() {
            "CREDENTIALS_INVALID" => {}
            "HASHING_QUEUE_FULL" => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                let told = tonic_types::StatusExt::get_details_retry_info(&status).and_then(|told| told.retry_delay);
                assert!((500..1500).contains(&told.expect("a delay").as_millis()));
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0);
}

pub(crate) async fn deactivate_all(server: &Server) {
    let mut tx = server.database.db().begin().await.expect("a transaction");
    let done: db::Result<()> = query!(tx.conn(), |c| {
        diesel_async::SimpleAsyncConnection::batch_execute(c, "UPDATE users SET is_active = (1 = 0)").await
    });
    done.expect("deactivated");
    tx.commit().await.expect("committed");
}
