//! User administration: how users are created, found, deactivated and deleted.

use std::time::Duration;

use proto::auth::v1::{CreateUserRequest, GetUserRequest, ListUsersRequest, User};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, with_token},
};
use tonic::Code;

use crate::support::{
    PASSWORD, Server,
    callers::{is, refusal},
    settings, with_password,
};

use super::calls::{
    administered, assert_refused, deactivate, delete, list, login, me, new_user, reactivate, refresh, set_password,
    users,
};

#[on_both_backends]
async fn a_new_user_has_the_given_language(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    for (login, locale, kept) in [("ann", "pt-br", "pt-BR"), ("bob", "", "")] {
        let request = CreateUserRequest {
            locale: locale.to_owned(),
            ..new_user(login, &[])
        };
        let created = users(&server).create_user(with_token(request, &admin)).await;
        let user = created.expect("created").into_inner().user.expect("a user");
        assert_eq!(user.locale, kept);
    }
    let request = CreateUserRequest {
        locale: "no language".to_owned(),
        login: "x".to_owned(),
        ..new_user("carl", &[])
    };
    let refused = users(&server).create_user(with_token(request, &admin)).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["login", "locale"]);
}

#[on_both_backends]
async fn users_are_created_found_and_listed(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let created = users(&server)
        .create_user(with_token(new_user("ann", &[]), &admin))
        .await
        .expect("created")
        .into_inner();
    assert_eq!(created.roles, ["player"]);
    assert!(
        created
            .user
            .as_ref()
            .is_some_and(|user| user.must_change_password && user.is_active)
    );
    let id = created.user.expect("a user").user_id;
    let request = GetUserRequest { user_id: id.clone() };
    let found = users(&server)
        .get_user(with_token(request, &admin))
        .await
        .expect("found")
        .into_inner();
    assert_eq!(
        (found.roles, found.user.expect("a user").login),
        (vec!["player".to_owned()], "ann".to_owned())
    );
    for name in ["ann", " ANN ", "Ann@Example.TEST"] {
        let request = GetUserRequest {
            user_id: name.to_owned(),
        };
        let found = users(&server).get_user(with_token(request, &admin)).await;
        let found = found.expect(name).into_inner().user.expect("a user");
        assert_eq!(found.user_id, id, "{name}");
    }
    for (name, refused) in [
        ("nobody", is(Code::NotFound, "USER_NOT_FOUND")),
        ("nobody@example.test", is(Code::NotFound, "USER_NOT_FOUND")),
        ("", is(Code::InvalidArgument, "FIELDS_INVALID")),
        (&"x".repeat(2_000), is(Code::InvalidArgument, "FIELDS_INVALID")),
    ] {
        let request = GetUserRequest {
            user_id: name.to_owned(),
        };
        assert_eq!(
            refusal(users(&server).get_user(with_token(request, &admin)).await),
            refused
        );
    }
    for (request, fields) in [
        (CreateUserRequest::default(), vec!["email", "login", "password"]),
        (new_user("bob", &["No Role"]), vec!["roles[0]"]),
        (
            CreateUserRequest {
                password: "bob@example.test".to_owned(),
                ..new_user("bob", &[])
            },
            vec!["password"],
        ),
    ] {
        let refused = users(&server)
            .create_user(with_token(request, &admin))
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), fields);
    }
    let taken = users(&server)
        .create_user(with_token(new_user("ANN", &[]), &admin))
        .await
        .expect_err("taken");
    assert_eq!(
        (taken.code(), bad_fields(&taken)),
        (Code::AlreadyExists, vec!["login".to_owned(), "email".to_owned()])
    );
    let unknown = users(&server)
        .create_user(with_token(new_user("bob", &["no_such_role"]), &admin))
        .await;
    assert_eq!(refusal(unknown), is(Code::NotFound, "ROLE_NOT_FOUND"));

    server.clock.advance(Duration::from_secs(1));
    let named = CreateUserRequest {
        first_name: "Zoe\u{308}".to_owned(),
        last_name: "O_Hara%".to_owned(),
        ..new_user("bob", &["admin"])
    };
    let bob = users(&server)
        .create_user(with_token(named, &admin))
        .await
        .expect("created")
        .into_inner()
        .user
        .expect("a user")
        .user_id;
    let query = |query: &str| ListUsersRequest {
        query: query.to_owned(),
        ..ListUsersRequest::default()
    };
    assert_eq!(
        list(&server, &admin, ListUsersRequest::default()).await,
        ["bob", "ann", "admin"]
    );
    for (text, found) in [
        ("NN@EX", vec!["ann"]),
        ("ZO\u{cb} o_h", vec!["bob"]),
        ("%", vec!["bob"]),
        ("_", vec!["bob"]),
        ("\\", vec![]),
        ("test zo", vec![]),
    ] {
        assert_eq!(list(&server, &admin, query(text)).await, found, "{text}");
    }
    let role = ListUsersRequest {
        role: "admin".to_owned(),
        ..ListUsersRequest::default()
    };
    assert_eq!(list(&server, &admin, role).await, ["bob", "admin"]);
    deactivate(&server, &admin, &bob).await.expect("deactivated");
    assert_eq!(
        list(&server, &admin, ListUsersRequest::default()).await,
        ["ann", "admin"]
    );
    let all = ListUsersRequest {
        show_inactive: true,
        ..ListUsersRequest::default()
    };
    assert_eq!(list(&server, &admin, all.clone()).await, ["bob", "ann", "admin"]);
    let mut page = ListUsersRequest {
        page_size: 2,
        ..all.clone()
    };
    let first = users(&server)
        .list_users(with_token(page.clone(), &admin))
        .await
        .expect("a page")
        .into_inner();
    page.page_token = first.next_page_token;
    assert_eq!(list(&server, &admin, page.clone()).await, ["admin"]);
    page.show_inactive = false;
    let foreign = users(&server)
        .list_users(with_token(page, &admin))
        .await
        .expect_err("another list");
    assert_eq!(bad_fields(&foreign), ["page_token"]);
    delete(&server, &admin, &bob).await.expect("deleted");
    assert_eq!(list(&server, &admin, all).await, ["ann", "admin"]);
    for user_id in [&bob, "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42"] {
        let request = GetUserRequest {
            user_id: user_id.to_owned(),
        };
        assert_eq!(
            refusal(users(&server).get_user(with_token(request, &admin)).await),
            is(Code::NotFound, "USER_NOT_FOUND")
        );
        assert_eq!(
            refusal(deactivate(&server, &admin, user_id).await),
            is(Code::NotFound, "USER_NOT_FOUND")
        );
        assert_eq!(
            refusal(reactivate(&server, &admin, user_id).await),
            is(Code::NotFound, "USER_NOT_FOUND")
        );
        assert_eq!(
            refusal(delete(&server, &admin, user_id).await),
            is(Code::NotFound, "USER_NOT_FOUND")
        );
        assert_eq!(
            refusal(set_password(&server, &admin, user_id).await),
            is(Code::NotFound, "USER_NOT_FOUND")
        );
    }
}

#[on_both_backends]
async fn deactivation_invalidates_all_tokens_and_reactivation_restores_none(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let registered = server.register("ann").await;
    let (tokens, id) = (
        registered.tokens.expect("tokens"),
        registered.user.expect("a user").user_id,
    );
    assert!(!deactivate(&server, &admin, &id).await.expect("deactivated").is_active);
    let ended = is(Code::Unauthenticated, "SESSION_ENDED");
    assert_eq!(
        refusal(login(&server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    assert_eq!(refusal(refresh(&server, &tokens.refresh_token).await), ended);
    assert_eq!(refusal(server.rotate(&tokens.refresh_token, "").await), ended);
    assert_refused(&server, &tokens.access_token).await;
    let once_more = deactivate(&server, &admin, &id).await.expect("the same");
    assert!(reactivate(&server, &admin, &id).await.expect("reactivated").is_active);
    let again = reactivate(&server, &admin, &id).await.expect("the same");
    assert_eq!(once_more.force_logout_time, again.force_logout_time);
    assert_eq!(refusal(refresh(&server, &tokens.refresh_token).await), ended);
    assert_eq!(
        refusal(me(&server, &tokens.access_token).await),
        is(Code::Unauthenticated, "TOKEN_STALE")
    );
    let new = login(&server, "ann", PASSWORD).await.expect("logged in");
    me(&server, &new.access_token).await.expect("me");
}

#[on_both_backends]
async fn renaming_counts_against_the_registration_limit(database: TestDatabase) {
    let server = Server::start_with(
        database,
        &settings(&["--registration-rate-per-minute", "1", "--registration-burst", "3"]),
    )
    .await;
    let ann = server.register("ann").await.tokens.expect("tokens").access_token;
    let rename = async |login: &str| {
        let request = with_password(User {
            login: login.to_owned(),
            ..User::default()
        });
        server.account().update_me(with_token(request, &ann)).await.map(drop)
    };
    server.register("bob").await;
    assert_eq!(
        refusal(rename("bob").await),
        is(Code::AlreadyExists, "USER_ALREADY_EXISTS")
    );
    assert_eq!(
        refusal(rename("cyd").await),
        is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS")
    );
}

#[on_both_backends]
async fn service_accounts_are_not_treated_as_users(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let mut accounts =
        proto::auth::v1::service_account_service_client::ServiceAccountServiceClient::new(channel(server.grpc));
    let request = proto::auth::v1::CreateServiceAccountRequest {
        client_id: "shop".to_owned(),
        ..Default::default()
    };
    let made = accounts
        .create_service_account(with_token(request, &admin))
        .await
        .expect("made")
        .into_inner();
    let id = made.service_account.expect("an account").user_id;
    let not_found = is(Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(
        refusal(
            users(&server)
                .get_user(with_token(GetUserRequest { user_id: id.clone() }, &admin))
                .await
        ),
        not_found
    );
    assert_eq!(refusal(set_password(&server, &admin, &id).await), not_found);
    assert_eq!(refusal(deactivate(&server, &admin, &id).await), not_found);
    assert_eq!(refusal(delete(&server, &admin, &id).await), not_found);
    assert_eq!(
        refusal(login(&server, "shop", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    assert_eq!(
        list(
            &server,
            &admin,
            ListUsersRequest {
                show_inactive: true,
                ..ListUsersRequest::default()
            }
        )
        .await,
        ["admin"]
    );
}
