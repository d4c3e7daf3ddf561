//! Rules for passwords, password changes by users and administrators, and the sessions and tokens
//! that they end.

use std::{sync::Arc, time::Duration};

use proto::auth::v1::{LoginRequest, account_service_client::AccountServiceClient};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, reason, with_token},
};
use tokio::sync::Barrier;
use tonic::Code;

use crate::support::{
    PASSWORD, Server,
    callers::{is, refusal},
    credentials, registration, rotate, settings,
};

use crate::users::calls::{
    NEW, TEMPORARY, administered, assert_refused, change, create, deactivate, first_login, login, me, refresh,
    set_password,
};

#[on_both_backends]
async fn a_temporary_password_must_be_changed_at_login(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    create(&server, &admin, "ann", &[]).await;
    assert_eq!(
        refusal(login(&server, "ann", TEMPORARY).await),
        is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED")
    );
    // Callers without the right credentials do not learn that a password must be changed.
    for (identifier, password) in [("ann", "wrong horse"), ("nobody", TEMPORARY)] {
        let refused = first_login(&server, identifier, password, NEW).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    }
    assert_eq!(
        bad_fields(
            &first_login(&server, "ann", TEMPORARY, TEMPORARY)
                .await
                .expect_err("refused")
        ),
        ["new_password"]
    );
    assert_eq!(
        bad_fields(
            &first_login(&server, "ann", TEMPORARY, "ann@example.test")
                .await
                .expect_err("refused")
        ),
        ["new_password"]
    );
    let typo = LoginRequest {
        new_password: NEW.to_owned(),
        ..credentials("ann", TEMPORARY)
    };
    assert_eq!(
        bad_fields(&server.auth().login(typo).await.expect_err("refused")),
        ["new_password_confirmation"]
    );
    let tokens = first_login(&server, "ann", TEMPORARY, NEW).await.expect("logged in");
    assert!(
        !me(&server, &tokens.access_token)
            .await
            .expect("me")
            .must_change_password
    );
    assert_eq!(
        refusal(login(&server, "ann", TEMPORARY).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    // A user may change the password at any login. The earlier session ends.
    let again = first_login(&server, "ann", NEW, "third horse")
        .await
        .expect("logged in");
    assert_eq!(
        refusal(refresh(&server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    me(&server, &again.access_token).await.expect("me");
}

#[on_both_backends]
async fn a_password_set_by_an_administrator_ends_sessions_and_is_temporary(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let registered = server.register("ann").await;
    let (tokens, id) = (
        registered.tokens.expect("tokens"),
        registered.user.expect("a user").user_id,
    );
    set_password(&server, &admin, &id).await.expect("set");
    assert_eq!(
        refusal(refresh(&server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_refused(&server, &tokens.access_token).await;
    assert_eq!(
        refusal(login(&server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    assert_eq!(
        refusal(login(&server, "ann", TEMPORARY).await),
        is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED")
    );
    first_login(&server, "ann", TEMPORARY, NEW).await.expect("logged in");
}

#[on_both_backends]
async fn calls_in_flight_do_not_outlive_a_password_change_or_deactivation(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let (_running, replica) = server.replica().await;
    for round in 0..6 {
        let name = format!("ann{round}");
        let registered = server.register(&name).await;
        let (tokens, id) = (
            registered.tokens.expect("tokens"),
            registered.user.expect("a user").user_id,
        );
        let here = server.login(&name).await;
        let barrier = Arc::new(Barrier::new(3));
        let racer = |kind: bool| {
            let (mut client, barrier, name, token) = (
                replica.clone(),
                Arc::clone(&barrier),
                name.clone(),
                tokens.refresh_token.clone(),
            );
            tokio::spawn(async move {
                barrier.wait().await;
                if kind {
                    rotate(&mut client, &token, "").await
                } else {
                    client
                        .login(credentials(&name, PASSWORD))
                        .await
                        .map(|answer| answer.into_inner().tokens.expect("tokens"))
                }
            })
        };
        let (rotation, entry) = (racer(true), racer(false));
        barrier.wait().await;
        if round % 2 == 0 {
            let mut client = AccountServiceClient::new(channel(server.grpc));
            client
                .change_password(with_token(change(PASSWORD, NEW), &here.access_token))
                .await
                .expect("changed");
        } else {
            deactivate(&server, &admin, &id).await.expect("deactivated");
        }
        for got in [rotation.await.expect("joined"), entry.await.expect("joined")]
            .into_iter()
            .flatten()
        {
            assert_eq!(
                refusal(refresh(&server, &got.refresh_token).await),
                is(Code::Unauthenticated, "SESSION_ENDED")
            );
            assert_refused(&server, &got.access_token).await;
        }
        assert_eq!(
            refusal(refresh(&server, &tokens.refresh_token).await),
            is(Code::Unauthenticated, "SESSION_ENDED")
        );
    }
}

#[on_both_backends]
async fn common_and_short_passwords_are_refused_with_the_reason(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--password-min-length", "10"])).await;
    for (password, words) in [("PassWord123", "common"), ("horse 123", "10 to 128")] {
        let mut request = registration("ann");
        request.password = password.to_owned();
        request.password_confirmation = password.to_owned();
        let refused = server.auth().register(request).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), ["password"]);
        assert!(refused.message().contains(words), "{refused:?}");
    }
}

#[on_both_backends]
async fn guesses_at_the_current_password_are_limited_like_logins(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    for _ in 0..10 {
        let refused = server
            .account()
            .change_password(with_token(change("wrong horse", NEW), &token))
            .await
            .expect_err("wrong");
        assert_eq!(reason(&refused), "CURRENT_PASSWORD_WRONG");
    }
    let refused = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await
        .expect_err("blocked");
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");
    server.clock.advance(Duration::from_secs(1));
    server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await
        .expect("changed");
}
