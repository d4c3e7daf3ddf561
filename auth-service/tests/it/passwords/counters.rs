//! Counters of failed attempts: what they count, and what clears them.

use std::collections::BTreeMap;

use proto::auth::v1::{LoginRequest, UnlockUserRequest};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, with_token},
};

use super::attempts::{WRONG, guesses, no_address_limit, try_login, wait};
use crate::{
    support::{PASSWORD, Server, credentials},
    users::calls::{NEW, change, users},
};

#[on_both_backends]
async fn an_unlock_clears_every_counter_of_the_user(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    let admin = server.superuser().await;
    let registered = server.register("ann").await;
    let user_id = registered.user.expect("a user").user_id;
    let token = registered.tokens.expect("tokens").access_token;
    let change_password = async |current: &str| {
        let request = with_token(change(current, NEW), &token);
        server.account().change_password(request).await
    };
    for identifier in ["ann", "ann@example.test"] {
        guesses(&server, identifier, 10).await;
        let refused = try_login(&mut server.auth(), identifier, PASSWORD).await;
        wait(&refused.expect_err("blocked"));
    }
    for _ in 0..10 {
        change_password(WRONG).await.expect_err("wrong");
    }
    wait(&change_password(PASSWORD).await.expect_err("blocked"));

    let unlock = with_token(UnlockUserRequest { user_id }, &admin);
    users(&server).unlock_user(unlock).await.expect("unlocked");
    for identifier in ["ann", "ann@example.test"] {
        let answer = try_login(&mut server.auth(), identifier, PASSWORD).await;
        answer.expect("let in");
    }
    change_password(PASSWORD).await.expect("changed");
}

#[on_both_backends]
async fn a_login_on_a_known_device_clears_its_counter(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    let device_token = server.register("ann").await.device_token;
    let login = async |password: &str| {
        let request = LoginRequest {
            device_token: device_token.clone(),
            ..credentials("ann", password)
        };
        server.auth().login(request).await
    };
    for _ in 0..2 {
        for _ in 0..9 {
            assert_eq!(reason(&login(WRONG).await.expect_err("wrong")), "CREDENTIALS_INVALID");
        }
        login(PASSWORD).await.expect("let in");
    }
}

#[on_both_backends]
async fn a_login_that_reads_like_an_address_is_counted_apart_from_it(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    for number in 0..10 {
        guesses(&server, &format!("nobody-{number}"), 1).await;
    }
    assert_eq!(
        guesses(&server, "127.0.0.1", 11).await,
        BTreeMap::from([
            ("CREDENTIALS_INVALID".to_owned(), 10),
            ("TOO_MANY_ATTEMPTS".to_owned(), 1),
        ])
    );
    // The address has many more free failures than a login.
    server.register("ann").await;
    try_login(&mut server.auth(), "ann", PASSWORD).await.expect("let in");
}
