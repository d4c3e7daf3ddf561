//! A user's own account: access tokens, profile, password, deletion.

use std::time::Duration;

use proto::auth::v1::{ChangePasswordRequest, DeleteMeRequest, GetMeRequest, UpdateMeRequest, User};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, with_token},
    tokens::TokenMint,
};
use tonic::{Code, Response};

use crate::{
    support::{
        PASSWORD, START, Server,
        callers::{is, refusal},
        mask, rotate, with_password,
    },
    users::calls::{NEW, assert_refused, change, login, me, refresh},
};

fn update(user: User, paths: &[&str]) -> UpdateMeRequest {
    UpdateMeRequest {
        user: Some(user),
        update_mask: Some(mask(paths)),
        ..UpdateMeRequest::default()
    }
}

#[on_both_backends]
async fn an_access_token_expires_after_half_an_hour(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let me = async || server.account().get_me(with_token(GetMeRequest {}, &token)).await;
    // The lifetime is 30 minutes, and the leeway 30 seconds.
    server.clock.advance(Duration::from_secs(1829));
    me().await.expect("still good");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(reason(&me().await.expect_err("over")), "TOKEN_EXPIRED");
}

#[on_both_backends]
async fn a_token_signed_with_an_unknown_key_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let user = server.register("ann").await.user.expect("a user");
    let mint = TokenMint::random();
    let forged = mint.sign(&mint.claims_for(user.user_id.parse().expect("an id"), "ann", &["superuser"], START));
    let refused = server
        .account()
        .get_me(with_token(GetMeRequest {}, &forged))
        .await
        .expect_err("forged");
    assert_eq!(reason(&refused), "TOKEN_INVALID");
}

#[on_both_backends]
async fn a_profile_update_follows_its_mask(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let update_me = async |request: UpdateMeRequest| {
        let answer = server
            .account()
            .update_me(with_token(request, &tokens.access_token))
            .await;
        answer.map(|answer| answer.into_inner().user.expect("a user"))
    };
    let names = User {
        first_name: "Ann".to_owned(),
        last_name: "Lee".to_owned(),
        ..User::default()
    };
    let changed = update_me(UpdateMeRequest {
        user: Some(names.clone()),
        ..UpdateMeRequest::default()
    })
    .await
    .expect("changed");
    assert_eq!(
        (
            changed.login.as_str(),
            changed.first_name.as_str(),
            changed.last_name.as_str()
        ),
        ("ann", "Ann", "Lee")
    );
    let changed = update_me(update(User::default(), &["first_name"]))
        .await
        .expect("emptied");
    assert_eq!((changed.first_name.as_str(), changed.last_name.as_str()), ("", "Lee"));
    let changed = update_me(UpdateMeRequest {
        current_password: PASSWORD.to_owned(),
        ..update(
            User {
                email: "b@example.test".to_owned(),
                ..names
            },
            &["email"],
        )
    })
    .await
    .expect("changed");
    assert_eq!(
        (changed.email.as_str(), changed.first_name.as_str()),
        ("b@example.test", "")
    );
    // None of these changes has invalidated the token.
    assert_eq!(me(&server, &tokens.access_token).await.expect("me"), changed);

    let unknown = update_me(update(User::default(), &["is_active"]))
        .await
        .expect_err("refused");
    assert_eq!(
        (unknown.code(), bad_fields(&unknown)),
        (Code::InvalidArgument, vec!["update_mask".to_owned()])
    );
    let bad = User {
        login: "x".to_owned(),
        email: "x".to_owned(),
        first_name: "\0".to_owned(),
        ..User::default()
    };
    let bad = update_me(UpdateMeRequest {
        user: Some(bad),
        ..UpdateMeRequest::default()
    })
    .await
    .expect_err("refused");
    assert_eq!(bad_fields(&bad), ["email", "login", "first_name"]);
    assert_eq!(
        bad_fields(&update_me(UpdateMeRequest::default()).await.expect_err("refused")),
        ["user"]
    );
}

#[on_both_backends]
async fn a_profile_update_reports_every_taken_name(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("bob").await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let taken = User {
        login: "BOB".to_owned(),
        email: "Bob@example.test".to_owned(),
        ..User::default()
    };
    let request = with_token(with_password(taken), &tokens.access_token);
    let refused = server.account().update_me(request).await.expect_err("taken");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "USER_ALREADY_EXISTS")
    );
    assert_eq!(bad_fields(&refused), ["login", "email"]);
    // Users may change the case of their own address.
    let own = User {
        email: "ANN@example.test".to_owned(),
        ..User::default()
    };
    let request = with_token(with_password(own), &tokens.access_token);
    server.account().update_me(request).await.expect("changed");
}

#[on_both_backends]
async fn changing_login_or_address_needs_the_password(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("bob").await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let update_me = async |user: User, password: &str| {
        let request = UpdateMeRequest {
            user: Some(user),
            update_mask: None,
            current_password: password.to_owned(),
        };
        server
            .account()
            .update_me(with_token(request, &tokens.access_token))
            .await
            .map(|_| ())
    };
    let login = |login: &str| User {
        login: login.to_owned(),
        ..User::default()
    };
    let email = |email: &str| User {
        email: email.to_owned(),
        ..User::default()
    };
    let unproven = is(Code::Unauthenticated, "REAUTHENTICATION_REQUIRED");
    for change in [
        login("eve"),
        email("eve@example.test"),
        User {
            first_name: "Ann".to_owned(),
            ..login("eve")
        },
    ] {
        assert_eq!(refusal(update_me(change, "").await), unproven);
    }
    // The refusal does not reveal which names are taken.
    assert_eq!(refusal(update_me(login("bob"), "").await), unproven);
    assert_eq!(
        refusal(update_me(login("bob"), "not hers").await),
        is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG")
    );
    let found = me(&server, &tokens.access_token).await.expect("me");
    assert_eq!(
        (found.login.as_str(), found.first_name.as_str()),
        ("ann", ""),
        "nothing has changed"
    );
    // Sending the current login and address changes nothing, and personal names are no credentials.
    // No password is needed.
    let present = User {
        first_name: "Ann".to_owned(),
        email: found.email.clone(),
        ..login("ann")
    };
    update_me(present, "").await.expect("changed");
    let too_long = update_me(login("x"), &"p".repeat(4096)).await.expect_err("refused");
    assert_eq!(bad_fields(&too_long), ["current_password", "login"]);
    update_me(email("eve@example.test"), PASSWORD).await.expect("changed");
    update_me(login("eve"), PASSWORD).await.expect("changed");
}

#[on_both_backends]
async fn login_and_address_cannot_be_set_to_the_password(database: TestDatabase) {
    let server = Server::start(database).await;
    for (password, user, field) in [
        (
            "Eve.Smith",
            User {
                login: " eve.smith".to_owned(),
                ..User::default()
            },
            "login",
        ),
        (
            "eve@example.test",
            User {
                email: "Eve@Example.test".to_owned(),
                ..User::default()
            },
            "email",
        ),
    ] {
        let person = format!("ann-{field}");
        let tokens = server.register(&person).await.tokens.expect("tokens");
        let request = change(PASSWORD, password);
        let changed = server
            .account()
            .change_password(with_token(request, &tokens.access_token))
            .await
            .expect("changed");
        let token = changed.into_inner().tokens.expect("tokens").access_token;
        let request = UpdateMeRequest {
            user: Some(user),
            update_mask: None,
            current_password: password.to_owned(),
        };
        let refused = server
            .account()
            .update_me(with_token(request, &token))
            .await
            .expect_err("the password");
        assert_eq!(
            (refused.code(), bad_fields(&refused)),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
        assert_eq!(
            me(&server, &token).await.expect("me").login,
            person,
            "nothing has changed"
        );
    }
}

#[on_both_backends]
async fn a_login_change_makes_older_access_tokens_stale(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let user = User {
        login: "Eve".to_owned(),
        ..User::default()
    };
    let request = with_token(with_password(user), &tokens.access_token);
    server.account().update_me(request).await.expect("changed");
    assert_refused(&server, &tokens.access_token).await;
    assert_eq!(
        refusal(me(&server, &tokens.access_token).await),
        is(Code::Unauthenticated, "TOKEN_STALE")
    );
    let fresh = refresh(&server, &tokens.refresh_token)
        .await
        .expect("the session lives");
    assert_eq!(me(&server, &fresh).await.expect("me").login, "Eve");
    assert_eq!(
        refusal(login(&server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    login(&server, "eve", PASSWORD).await.expect("logged in");
}

#[on_both_backends]
async fn a_password_change_ends_the_other_sessions_and_renews_this_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let other = server.login("ann").await;
    let change_password = async |request: ChangePasswordRequest, token: &str| {
        server
            .account()
            .change_password(with_token(request, token))
            .await
            .map(Response::into_inner)
    };
    let wrong = change_password(change("wrong horse", NEW), &tokens.access_token).await;
    assert_eq!(refusal(wrong), is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG"));
    for (new, fields) in [
        (PASSWORD, vec!["new_password"]),
        ("short", vec!["new_password"]),
        ("ann@example.test", vec!["new_password"]),
    ] {
        let refused = change_password(change(PASSWORD, new), &tokens.access_token)
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), fields, "{new}");
    }
    let nothing = change_password(ChangePasswordRequest::default(), &tokens.access_token)
        .await
        .expect_err("refused");
    assert_eq!(
        bad_fields(&nothing),
        ["current_password", "new_password", "new_password_confirmation"]
    );
    // Nothing has changed so far.
    assert!(me(&server, &other.access_token).await.is_ok());

    let new = change_password(change(PASSWORD, NEW), &tokens.access_token)
        .await
        .expect("changed")
        .tokens
        .expect("tokens");
    assert_eq!(
        refusal(rotate(&mut server.auth(), &other.refresh_token, "").await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_eq!(
        refusal(refresh(&server, &tokens.refresh_token).await),
        is(Code::Aborted, "ROTATION_OVERLAP")
    );
    assert_refused(&server, &other.access_token).await;
    assert_refused(&server, &tokens.access_token).await;
    me(&server, &new.access_token).await.expect("the new one is good");
    assert_eq!(
        refusal(login(&server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    login(&server, "ann", NEW).await.expect("logged in");
    server.rotate(&new.refresh_token, "").await.expect("this session lives");
    assert_eq!(
        refusal(refresh(&server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "REFRESH_TOKEN_REUSED")
    );
}

#[on_both_backends]
async fn deleting_an_account_ends_its_sessions_and_frees_its_names(database: TestDatabase) {
    let server = Server::start(database).await;
    let registered = server.register("ann").await;
    let (tokens, id) = (
        registered.tokens.expect("tokens"),
        registered.user.expect("a user").user_id,
    );
    let delete_me = async |password: &str| {
        let request = DeleteMeRequest {
            current_password: password.to_owned(),
            ..DeleteMeRequest::default()
        };
        server
            .account()
            .delete_me(with_token(request, &tokens.access_token))
            .await
    };
    assert_eq!(
        refusal(delete_me("wrong horse").await),
        is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG")
    );
    assert_eq!(
        bad_fields(&delete_me("").await.expect_err("refused")),
        ["current_password"]
    );
    delete_me(PASSWORD).await.expect("deleted");
    assert_eq!(
        refusal(refresh(&server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_refused(&server, &tokens.access_token).await;
    for identifier in [
        "ann".to_owned(),
        "ann@example.test".to_owned(),
        format!("deleted:{id}"),
        String::from(" "),
    ] {
        let refused = login(&server, &identifier, PASSWORD).await;
        assert_eq!(
            refusal(refused),
            is(Code::Unauthenticated, "CREDENTIALS_INVALID"),
            "{identifier}"
        );
    }
    let dump = crate::support::dump(&server.database).await;
    if server.database.backend() == db::Backend::Postgres {
        assert!(!dump.contains("ann@example.test"));
    }
    // Another user can take over the login and address, but not the tokens.
    let other = server.register("ann").await.user.expect("a user");
    assert_ne!(other.user_id, id);
    assert_eq!(
        refusal(refresh(&server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_eq!(
        refusal(me(&server, &tokens.access_token).await),
        is(Code::Unauthenticated, "TOKEN_STALE")
    );
}
