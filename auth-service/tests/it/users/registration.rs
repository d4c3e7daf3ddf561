//! Registration.

use proto::auth::v1::{GetMeRequest, RegisterRequest};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, with_token},
};
use tonic::Code;

use crate::support::{Server, registration, settings};

#[on_both_backends]
async fn a_registered_user_is_logged_in(database: TestDatabase) {
    let server = Server::start(database).await;
    let request = RegisterRequest {
        first_name: " Ann ".to_owned(),
        last_name: "Smith".to_owned(),
        middle_name: "B.".to_owned(),
        ..registration("Ann")
    };
    let answer = server.auth().register(request).await.expect("registered").into_inner();
    let user = answer.user.expect("a user");
    assert_eq!((user.login.as_str(), user.email.as_str()), ("Ann", "Ann@example.test"));
    assert_eq!(
        (
            user.first_name.as_str(),
            user.last_name.as_str(),
            user.middle_name.as_str()
        ),
        ("Ann", "Smith", "B.")
    );
    assert_eq!(user.create_time, user.last_login_time);

    let tokens = answer.tokens.expect("tokens");
    assert_eq!(
        (
            tokens.token_type.as_str(),
            tokens.access_expires_in,
            tokens.refresh_expires_in
        ),
        ("Bearer", 1800, 604_800)
    );
    let me = server
        .account()
        .get_me(with_token(GetMeRequest {}, &tokens.access_token))
        .await
        .expect("me")
        .into_inner();
    assert_eq!(me.user, Some(user));
    assert_eq!((me.roles, me.is_admin), (vec!["player".to_owned()], false));
}

#[on_both_backends]
async fn every_bad_field_is_named_and_nothing_is_written(database: TestDatabase) {
    let server = Server::start(database).await;
    let nothing = server
        .auth()
        .register(RegisterRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(
        (nothing.code(), reason(&nothing)),
        (Code::InvalidArgument, "FIELDS_INVALID".to_owned())
    );
    assert_eq!(
        bad_fields(&nothing),
        ["email", "login", "password", "password_confirmation"]
    );

    let long = "x".repeat(1000);
    let all = RegisterRequest {
        email: long.clone(),
        login: long.clone(),
        password: long.clone(),
        password_confirmation: "another".to_owned(),
        first_name: long.clone(),
        last_name: "a\0b".to_owned(),
        middle_name: long,
        ..RegisterRequest::default()
    };
    let all = server.auth().register(all).await.expect_err("refused");
    assert_eq!(
        bad_fields(&all),
        [
            "email",
            "login",
            "password",
            "password_confirmation",
            "first_name",
            "last_name",
            "middle_name"
        ],
    );
    for (field, request) in [
        (
            "login",
            RegisterRequest {
                login: "a b".to_owned(),
                ..registration("ann")
            },
        ),
        (
            "email",
            RegisterRequest {
                email: "ann".to_owned(),
                ..registration("ann")
            },
        ),
        (
            "password_confirmation",
            RegisterRequest {
                password_confirmation: "correct horsf".to_owned(),
                ..registration("ann")
            },
        ),
    ] {
        let refused = server.auth().register(request).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), [field]);
    }
    for password in ["ann@EXAMPLE.test", "short", "nul\0nul\0nul"] {
        let (password, password_confirmation) = (password.to_owned(), password.to_owned());
        let request = RegisterRequest {
            password,
            password_confirmation,
            ..registration("ann")
        };
        let refused = server.auth().register(request).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), ["password"]);
        assert!(!refused.message().contains("nul\0"), "the password is in the error");
    }
    server.register("ann").await;
}

#[on_both_backends]
async fn a_taken_name_is_taken_in_every_spelling(database: TestDatabase) {
    let server = Server::start(database).await;
    server
        .auth()
        .register(RegisterRequest {
            email: "zo\u{eb}@example.test".to_owned(),
            ..registration("zoe")
        })
        .await
        .expect("registered");
    for (taken, login, email) in [
        (vec!["login"], "ZOE", "other@example.test"),
        (vec!["email"], "other", "ZOE\u{308}@EXAMPLE.test"),
        (vec!["email"], "other", "zo\u{eb}@\u{ff25}xample.test"),
        (vec!["login", "email"], "Zoe", "zoe\u{308}@example.test"),
    ] {
        let request = RegisterRequest {
            login: login.to_owned(),
            email: email.to_owned(),
            ..registration("x")
        };
        let refused = server.auth().register(request).await.expect_err("taken");
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::AlreadyExists, "USER_ALREADY_EXISTS".to_owned())
        );
        assert_eq!(bad_fields(&refused), taken, "{login} {email}");
    }
}

#[on_both_backends]
async fn one_of_many_concurrent_registrations_gets_the_name(database: TestDatabase) {
    let server = Server::start(database).await;
    let racers = (0..10).map(|_| {
        let mut client = server.auth();
        tokio::spawn(async move { client.register(registration("ann")).await })
    });
    let mut registered = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.expect("joined") {
            Ok(_) => registered += 1,
            Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "{status}"),
        }
    }
    assert_eq!(registered, 1);
}

#[on_both_backends]
async fn registration_is_refused_while_it_is_closed(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--registration-open", "false"])).await;
    let refused = server.auth().register(registration("ann")).await.expect_err("closed");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::FailedPrecondition, "REGISTRATION_CLOSED".to_owned())
    );
}
