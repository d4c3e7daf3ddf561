//! Upgrade of guests to users with a password, and what a guest cannot do before.

use proto::auth::v1::{DeleteMeRequest, UpdateMeRequest, UpgradeAccountRequest, User};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, with_token},
};
use tonic::Code;

use super::{Guest, delete_me, guest, login_guest, upgrade, upgrade_to};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        count,
    },
    users::calls::{NEW, assert_refused, change, login, me, refresh},
};

async fn assert_is_guest(server: &Server, guest: &Guest) {
    let user = me(server, &guest.access).await.expect("me");
    assert!(user.is_guest);
    assert_eq!((user.login, user.email.as_str()), (guest.login.clone(), ""));
    login_guest(server, &guest.credential).await.expect("logged in");
}

#[on_both_backends]
async fn an_upgraded_guest_keeps_the_id_and_nothing_else_from_before_works(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    let elsewhere = login_guest(&server, &guest.credential).await.expect("logged in");
    let elsewhere = elsewhere.tokens.expect("tokens");
    let request = UpgradeAccountRequest {
        first_name: "Ann".to_owned(),
        locale: "ru".to_owned(),
        ..upgrade_to("Ann")
    };
    let answer = upgrade(&server, &guest.access, request).await.expect("upgraded");
    let (user, tokens) = (answer.user.expect("a user"), answer.tokens.expect("tokens"));
    assert_eq!(user.user_id, guest.user_id);
    assert_eq!(
        (
            user.login.as_str(),
            user.email.as_str(),
            user.first_name.as_str(),
            user.locale.as_str()
        ),
        ("Ann", "Ann@example.test", "Ann", "ru")
    );
    assert!(!user.is_guest && !user.must_change_password && user.email_verify_time.is_none());
    // The new tokens are those of a player, in the same session.
    assert_eq!(me(&server, &tokens.access_token).await.expect("me"), user);
    let request = with_token(proto::auth::v1::GetMeRequest {}, &tokens.access_token);
    let roles = server.account().get_me(request).await.expect("me").into_inner().roles;
    assert_eq!(roles, ["player"]);
    server.rotate(&tokens.refresh_token, "").await.expect("rotated");
    assert_eq!(count(server.database.db(), "sessions WHERE end_time IS NULL").await, 1);
    for token in [&guest.access, &elsewhere.access_token] {
        assert_refused(&server, token).await;
    }
    assert_eq!(
        refusal(refresh(&server, &elsewhere.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_eq!(
        refusal(login_guest(&server, &guest.credential).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    for identifier in ["ann", "ANN@example.test"] {
        login(&server, identifier, PASSWORD).await.expect("logged in");
    }
    login(&server, &guest.login, PASSWORD).await.expect_err("renamed");
    // Other services are told of the new name.
    let renamed = format!(
        "access_feed WHERE kind = 'user_changed' AND subject = '{}'",
        guest.user_id
    );
    assert_eq!(count(server.database.db(), &renamed).await, 1);
    assert_eq!(
        count(server.database.db(), "audit_events WHERE action = 'user.upgrade'").await,
        1
    );
    assert_eq!(count(server.database.db(), "guest_credentials").await, 0);
    // There is nothing left to upgrade, and the account is like any other.
    let token = login(&server, "ann", PASSWORD).await.expect("logged in").access_token;
    let again = upgrade(&server, &token, upgrade_to("bob")).await;
    assert_eq!(refusal(again), is(Code::FailedPrecondition, "NOT_A_GUEST"));
    let changed = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await;
    changed.expect("changed");
}

#[on_both_backends]
async fn a_conflict_names_the_fields_and_changes_nothing(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    server.register("bob").await;
    let guest = guest(&server).await;
    for (login, email, fields) in [
        ("ANN", "new@example.test", &["login"][..]),
        ("new", "Ann@EXAMPLE.test", &["email"]),
        ("bob", "ann@example.test", &["login", "email"]),
    ] {
        let request = UpgradeAccountRequest {
            login: login.to_owned(),
            email: email.to_owned(),
            ..upgrade_to("new")
        };
        let refused = upgrade(&server, &guest.access, request).await.expect_err("taken");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::AlreadyExists, "USER_ALREADY_EXISTS")
        );
        assert_eq!(bad_fields(&refused), fields);
        assert_is_guest(&server, &guest).await;
    }
    let nothing = upgrade(&server, &guest.access, UpgradeAccountRequest::default()).await;
    assert_eq!(
        bad_fields(&nothing.expect_err("refused")),
        ["email", "login", "password", "password_confirmation"]
    );
    assert_is_guest(&server, &guest).await;
    refresh(&server, &guest.refresh).await.expect("the session goes on");
}

#[on_both_backends]
async fn of_several_upgrades_at_once_one_wins(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    let names: Vec<String> = (0..8).map(|number| format!("ann{number}")).collect();
    let upgrades = names
        .iter()
        .map(|name| upgrade(&server, &guest.access, upgrade_to(name)));
    let results = futures_util::future::join_all(upgrades).await;
    let won: Vec<_> = results
        .iter()
        .zip(&names)
        .filter(|(result, _)| result.is_ok())
        .collect();
    assert_eq!(won.len(), 1, "{results:?}");
    login(&server, won[0].1, PASSWORD).await.expect("logged in");
    // Likewise, of several guests one gets the name.
    let mut guests = Vec::new();
    for _ in 0..8 {
        guests.push(super::guest(&server).await);
    }
    let upgrades = guests
        .iter()
        .map(|guest| upgrade(&server, &guest.access, upgrade_to("bob")));
    let results = futures_util::future::join_all(upgrades).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(reason(&refused), "USER_ALREADY_EXISTS");
    }
}

#[on_both_backends]
async fn a_guest_has_no_password_to_change_or_to_confirm_with(database: TestDatabase) {
    let server = Server::start(database).await;
    let guest = guest(&server).await;
    let refused = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &guest.access))
        .await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    for user in [
        User {
            login: "ann".to_owned(),
            ..User::default()
        },
        User {
            email: "ann@example.test".to_owned(),
            ..User::default()
        },
    ] {
        for current_password in ["", PASSWORD] {
            let request = UpdateMeRequest {
                user: Some(user.clone()),
                current_password: current_password.to_owned(),
                ..UpdateMeRequest::default()
            };
            let refused = server.account().update_me(with_token(request, &guest.access)).await;
            assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
        }
    }
    let named = User {
        first_name: "Ann".to_owned(),
        ..User::default()
    };
    let request = UpdateMeRequest {
        user: Some(named),
        ..UpdateMeRequest::default()
    };
    let named = server.account().update_me(with_token(request, &guest.access)).await;
    assert_eq!(
        named.expect("changed").into_inner().user.expect("a user").first_name,
        "Ann"
    );
    // A deletion takes the credential of this guest in place of a password.
    let request = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..DeleteMeRequest::default()
    };
    let refused = server.account().delete_me(with_token(request, &guest.access)).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    let both = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        guest_credential: "x".repeat(200),
    };
    let refused = server.account().delete_me(with_token(both, &guest.access)).await;
    assert_eq!(
        bad_fields(&refused.expect_err("refused")),
        ["guest_credential", "current_password"]
    );
    let refused = server
        .account()
        .delete_me(with_token(DeleteMeRequest::default(), &guest.access))
        .await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["guest_credential"]);
    let other = super::guest(&server).await;
    let user = server.register("user").await.tokens.expect("tokens").access_token;
    for (token, credential) in [
        (&guest.access, &other.credential),
        (&guest.access, &"wrong".to_owned()),
        (&user, &guest.credential),
    ] {
        assert_eq!(
            refusal(delete_me(&server, token, credential).await),
            is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG")
        );
    }
    let failures = "audit_events WHERE action = 'user.delete' AND outcome = 'failure'";
    assert_eq!(count(server.database.db(), failures).await, 3);
    delete_me(&server, &guest.access, &guest.credential)
        .await
        .expect("deleted");
    assert_refused(&server, &guest.access).await;
    assert_eq!(
        refusal(me(&server, &guest.access).await),
        is(Code::Unauthenticated, "TOKEN_STALE")
    );
    login_guest(&server, &guest.credential).await.expect_err("deleted");
    assert_eq!(count(server.database.db(), "users WHERE is_guest").await, 1);
    assert_eq!(count(server.database.db(), "guest_credentials").await, 1);
    login_guest(&server, &other.credential).await.expect("another guest");
}
