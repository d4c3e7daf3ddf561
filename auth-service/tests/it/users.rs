use std::{sync::Arc, time::Duration};

use proto::auth::v1::{
    ChangePasswordRequest, CreateRoleRequest, CreateUserRequest, DeactivateUserRequest, DeleteMeRequest,
    DeleteUserRequest, GetMeRequest, GetUserRequest, ListUsersRequest, LoginRequest, ReactivateUserRequest,
    RefreshAccessTokenRequest, RevokeUserTokensRequest, Role, SetPasswordRequest, TokenPair, UpdateUserRequest, User,
    account_service_client::AccountServiceClient, rbac_service_client::RbacServiceClient,
    user_service_client::UserServiceClient,
};
use server::ServerSettings;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, with_token},
};
use tokio::sync::Barrier;
use tonic::{Code, Status, transport::Channel};

use crate::{
    callers::{is, refusal},
    support::{PASSWORD, START, Server, credentials, rotate, settings, spawn, with_password},
};

const TEMPORARY: &str = "temporary horse";
pub(crate) const NEW: &str = "another horse";

/// A service with the administrator `admin`, and the administrator's access token.
async fn administered(database: TestDatabase) -> (Server, String) {
    let server = Server::start_with(database, &settings(&["--bootstrap-admin-password", TEMPORARY])).await;
    let tokens = first_login(&server, "admin", TEMPORARY, PASSWORD)
        .await
        .expect("logged in");
    (server, tokens.access_token)
}

/// A login that changes the password.
async fn first_login(server: &Server, login: &str, old: &str, new: &str) -> Result<TokenPair, Status> {
    let request = LoginRequest {
        new_password: new.to_owned(),
        new_password_confirmation: new.to_owned(),
        ..credentials(login, old)
    };
    Ok(server.auth().login(request).await?.into_inner().tokens.expect("tokens"))
}

pub(crate) async fn login(server: &Server, login: &str, password: &str) -> Result<TokenPair, Status> {
    let answer = server.auth().login(credentials(login, password)).await?;
    Ok(answer.into_inner().tokens.expect("tokens"))
}

pub(crate) async fn refresh(server: &Server, token: &str) -> Result<String, Status> {
    let request = RefreshAccessTokenRequest {
        refresh_token: token.to_owned(),
        ..RefreshAccessTokenRequest::default()
    };
    Ok(server
        .auth()
        .refresh_access_token(request)
        .await?
        .into_inner()
        .access_token)
}

pub(crate) async fn me(server: &Server, token: &str) -> Result<User, Status> {
    let answer = server.account().get_me(with_token(GetMeRequest {}, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

/// Makes sure that an access token is refused where its end was acknowledged, from then on.
pub(crate) async fn refused_from_now_on(server: &Server, token: &str) {
    for _ in 0..5 {
        me(server, token).await.expect_err("refused");
    }
}

fn users(server: &Server) -> UserServiceClient<Channel> {
    UserServiceClient::new(channel(server.grpc))
}

pub(crate) fn change(current: &str, new: &str) -> ChangePasswordRequest {
    ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
        new_password_confirmation: new.to_owned(),
    }
}

fn new_user(login: &str, roles: &[&str]) -> CreateUserRequest {
    CreateUserRequest {
        email: format!("{login}@example.test"),
        login: login.to_owned(),
        password: TEMPORARY.to_owned(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        ..CreateUserRequest::default()
    }
}

async fn create(server: &Server, admin: &str, login: &str, roles: &[&str]) -> String {
    let created = users(server)
        .create_user(with_token(new_user(login, roles), admin))
        .await;
    created.expect("created").into_inner().user.expect("a user").user_id
}

async fn deactivate(server: &Server, token: &str, user_id: &str) -> Result<User, Status> {
    let request = DeactivateUserRequest {
        user_id: user_id.to_owned(),
    };
    let answer = users(server).deactivate_user(with_token(request, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

async fn reactivate(server: &Server, token: &str, user_id: &str) -> Result<User, Status> {
    let request = ReactivateUserRequest {
        user_id: user_id.to_owned(),
    };
    let answer = users(server).reactivate_user(with_token(request, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

async fn delete(server: &Server, token: &str, user_id: &str) -> Result<(), Status> {
    let request = DeleteUserRequest {
        user_id: user_id.to_owned(),
    };
    users(server).delete_user(with_token(request, token)).await.map(|_| ())
}

async fn set_password(server: &Server, token: &str, user_id: &str) -> Result<(), Status> {
    let request = SetPasswordRequest {
        user_id: user_id.to_owned(),
        password: TEMPORARY.to_owned(),
    };
    users(server).set_password(with_token(request, token)).await.map(|_| ())
}

async fn list(server: &Server, token: &str, request: ListUsersRequest) -> Vec<String> {
    let answer = users(server)
        .list_users(with_token(request, token))
        .await
        .expect("a list");
    answer.into_inner().users.into_iter().map(|user| user.login).collect()
}

#[on_both_backends]
async fn a_temporary_password_is_good_for_changing_it(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    create(&server, &admin, "ann", &[]).await;
    assert_eq!(
        refusal(login(&server, "ann", TEMPORARY).await),
        is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED")
    );
    // The answer reveals nothing to callers without the secret.
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
    // Once more, because one wants to: the session before ends.
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
async fn a_deactivated_user_has_nothing_that_works_and_reactivation_revives_none_of_it(database: TestDatabase) {
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
    refused_from_now_on(&server, &tokens.access_token).await;
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
async fn a_set_password_logs_out_and_is_temporary(database: TestDatabase) {
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
    refused_from_now_on(&server, &tokens.access_token).await;
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
async fn nobody_gets_at_those_who_hold_more(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let mut rbac = RbacServiceClient::new(channel(server.grpc));
    let role = Role {
        code_name: "support".to_owned(),
        name: "Support".to_owned(),
        permissions: [
            "users:create",
            "users:read",
            "users:update",
            "users:delete",
            "sessions:delete",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Role::default()
    };
    rbac.create_role(with_token(CreateRoleRequest { role: Some(role) }, &admin))
        .await
        .expect("a role");
    create(&server, &admin, "helper", &["player", "support"]).await;
    let chief = create(&server, &admin, "chief", &["player", "admin"]).await;
    let ann = create(&server, &admin, "ann", &[]).await;
    let root = me(&server, &admin).await.expect("me").user_id;
    let helper = first_login(&server, "helper", TEMPORARY, NEW)
        .await
        .expect("logged in")
        .access_token;
    let exceeds = is(Code::PermissionDenied, "GRANT_EXCEEDS_OWN");
    let superuser = is(Code::PermissionDenied, "SUPERUSER_REQUIRED");
    let rename = async |user_id: &str, user: User| {
        let request = UpdateUserRequest {
            user_id: user_id.to_owned(),
            user: Some(user),
            update_mask: None,
        };
        users(&server).update_user(with_token(request, &helper)).await
    };
    let email = |text: &str| User {
        email: text.to_owned(),
        ..User::default()
    };
    assert_eq!(refusal(set_password(&server, &helper, &chief).await), exceeds);
    assert_eq!(refusal(rename(&chief, email("mine@example.test")).await), exceeds);
    assert_eq!(
        refusal(
            rename(
                &chief,
                User {
                    login: "mine".to_owned(),
                    ..User::default()
                }
            )
            .await
        ),
        exceeds
    );
    assert_eq!(
        refusal(
            rename(
                &chief,
                User {
                    first_name: "X".to_owned(),
                    ..User::default()
                }
            )
            .await
        ),
        exceeds
    );
    assert_eq!(refusal(deactivate(&server, &helper, &chief).await), exceeds);
    assert_eq!(refusal(reactivate(&server, &helper, &chief).await), exceeds);
    assert_eq!(refusal(delete(&server, &helper, &chief).await), exceeds);
    let revoke = RevokeUserTokensRequest { user_id: chief.clone() };
    assert_eq!(
        refusal(users(&server).revoke_user_tokens(with_token(revoke, &helper)).await),
        exceeds
    );
    assert_eq!(refusal(set_password(&server, &helper, &root).await), superuser);
    assert_eq!(
        refusal(
            rename(
                &root,
                User {
                    first_name: "X".to_owned(),
                    ..User::default()
                }
            )
            .await
        ),
        superuser
    );
    assert_eq!(refusal(deactivate(&server, &helper, &root).await), superuser);
    assert_eq!(refusal(reactivate(&server, &helper, &root).await), superuser);
    assert_eq!(refusal(delete(&server, &helper, &root).await), superuser);
    for (role, refused) in [("admin", &exceeds), ("superuser", &superuser)] {
        let made = users(&server)
            .create_user(with_token(new_user("puppet", &[role]), &helper))
            .await;
        assert_eq!(refusal(made), *refused, "{role}");
    }
    assert_eq!(
        list(
            &server,
            &admin,
            ListUsersRequest {
                query: "puppet".to_owned(),
                ..ListUsersRequest::default()
            }
        )
        .await,
        [""; 0]
    );
    let unlock = proto::auth::v1::UnlockUserRequest { user_id: root.clone() };
    assert_eq!(
        refusal(users(&server).unlock_user(with_token(unlock, &helper)).await),
        superuser
    );
    // Each attempt is in the audit log.
    let tried = proto::auth::v1::ListAuditEventsRequest {
        action: "user.*".to_owned(),
        outcome: proto::auth::v1::audit_event::Outcome::Failure.into(),
        ..Default::default()
    };
    let mut audit = proto::auth::v1::audit_service_client::AuditServiceClient::new(channel(server.grpc));
    let tried = audit
        .list_audit_events(with_token(tried, &admin))
        .await
        .expect("listed")
        .into_inner()
        .events;
    let tried: std::collections::BTreeSet<_> = tried
        .iter()
        .map(|event| (event.action.as_str(), event.reason.as_str()))
        .collect();
    for (action, reason) in [
        ("user.deactivate", "SUPERUSER_REQUIRED"),
        ("user.set_password", "GRANT_EXCEEDS_OWN"),
        ("user.create", "SUPERUSER_REQUIRED"),
        ("user.unlock", "SUPERUSER_REQUIRED"),
        ("user.delete", "SUPERUSER_REQUIRED"),
    ] {
        assert!(tried.contains(&(action, reason)), "{action} {reason}: {tried:?}");
    }
    // Those who hold no more than every player are theirs to look after.
    set_password(&server, &helper, &ann).await.expect("set");
    rename(&ann, email("ann2@example.test")).await.expect("changed");
    deactivate(&server, &helper, &ann).await.expect("deactivated");
    delete(&server, &helper, &ann).await.expect("deleted");
}

#[on_both_backends]
async fn the_last_superuser_stays(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let root = me(&server, &admin).await.expect("me").user_id;
    let last = is(Code::FailedPrecondition, "LAST_ADMIN");
    assert_eq!(refusal(deactivate(&server, &admin, &root).await), last);
    let request = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
    };
    assert_eq!(
        refusal(server.account().delete_me(with_token(request, &admin)).await),
        last
    );
    me(&server, &admin).await.expect("nothing happened");
    // One who is not active does not count.
    let other = create(&server, &admin, "other", &["superuser"]).await;
    deactivate(&server, &admin, &other).await.expect("deactivated");
    assert_eq!(refusal(deactivate(&server, &admin, &root).await), last);
    reactivate(&server, &admin, &other).await.expect("reactivated");
    deactivate(&server, &admin, &root).await.expect("somebody is left");
}

#[on_both_backends]
async fn two_superusers_who_remove_each_other_at_once_leave_one(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let replica = server.database.replica().await;
    let (_running, grpc, _) = spawn(
        &settings(&[]),
        &ServerSettings::default(),
        replica,
        &server.secret,
        base::clock::Clock::manual(START).0,
    )
    .await;
    let mut root = (me(&server, &admin).await.expect("me").user_id, admin);
    for round in 0..8 {
        let login = format!("root{round}");
        let id = create(&server, &root.1, &login, &["superuser"]).await;
        let other = (
            id,
            first_login(&server, &login, TEMPORARY, NEW)
                .await
                .expect("logged in")
                .access_token,
        );
        let barrier = Arc::new(Barrier::new(2));
        let race = |address, token: String, target: String| {
            let barrier = Arc::clone(&barrier);
            tokio::spawn(async move {
                let mut client = UserServiceClient::new(channel(address));
                barrier.wait().await;
                if round % 2 == 0 {
                    client
                        .delete_user(with_token(DeleteUserRequest { user_id: target }, &token))
                        .await
                        .map(|_| ())
                } else {
                    client
                        .deactivate_user(with_token(DeactivateUserRequest { user_id: target }, &token))
                        .await
                        .map(|_| ())
                }
            })
        };
        let one = race(server.grpc, root.1.clone(), other.0.clone());
        let two = race(grpc, other.1.clone(), root.0.clone());
        let outcomes = (one.await.expect("joined"), two.await.expect("joined"));
        assert_eq!(
            u8::from(outcomes.0.is_ok()) + u8::from(outcomes.1.is_ok()),
            1,
            "{outcomes:?}"
        );
        if outcomes.1.is_ok() {
            root = other;
        }
    }
}

#[on_both_backends]
async fn an_administrator_who_is_out_does_nothing_more(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let (_running, replica) = server.replica().await;
    drop(replica);
    let registered = server.register("ann").await;
    let ann = registered.user.expect("a user").user_id;
    let mut rbac = RbacServiceClient::new(channel(server.grpc));
    let assign = proto::auth::v1::AssignRoleRequest {
        user_id: ann.clone(),
        role: "admin".to_owned(),
    };
    rbac.assign_role(with_token(assign, &admin)).await.expect("assigned");
    let anns = login(&server, "ann", PASSWORD).await.expect("logged in").access_token;
    let bob = server.register("bob").await.user.expect("a user").user_id;
    // What a replica has not heard of yet stands in the database: here nobody tells the feed.
    let quietly = "UPDATE users SET token_version = token_version + 1 WHERE login = 'ann'";
    let done: db::Result<usize> = db::write_tx!(server.database.db(), |tx| db::query!(tx, |c| {
        diesel_async::RunQueryDsl::execute(diesel::sql_query(quietly), c).await
    }));
    assert_eq!(done.expect("done"), 1);
    me(&server, &anns).await.expect("not heard of");
    let stale = is(Code::Unauthenticated, "TOKEN_STALE");
    assert_eq!(refusal(deactivate(&server, &anns, &bob).await), stale);
    assert_eq!(refusal(set_password(&server, &anns, &bob).await), stale);
    assert_eq!(refusal(delete(&server, &anns, &bob).await), stale);
    let assign = proto::auth::v1::AssignRoleRequest {
        user_id: bob.clone(),
        role: "admin".to_owned(),
    };
    assert_eq!(refusal(rbac.assign_role(with_token(assign, &anns)).await), stale);
    let unlock = proto::auth::v1::UnlockUserRequest { user_id: bob };
    assert_eq!(
        refusal(users(&server).unlock_user(with_token(unlock, &anns)).await),
        stale
    );
}

#[on_both_backends]
async fn names_are_tried_no_faster_than_by_registering(database: TestDatabase) {
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
async fn one_is_not_an_administrator_to_oneself(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let id = me(&server, &admin).await.expect("me").user_id;
    let own = is(Code::FailedPrecondition, "OWN_ACCOUNT");
    assert_eq!(refusal(set_password(&server, &admin, &id).await), own);
    assert_eq!(refusal(delete(&server, &admin, &id).await), own);
    let rename = UpdateUserRequest {
        user_id: id,
        user: Some(User {
            login: "eve".to_owned(),
            ..User::default()
        }),
        update_mask: None,
    };
    let renamed = users(&server).update_user(with_token(rename, &admin)).await;
    assert_eq!(refusal(renamed), own, "UpdateMe asks for the password");
}

#[on_both_backends]
async fn nothing_from_before_outlives_a_changed_password_or_a_deactivation(database: TestDatabase) {
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
            refused_from_now_on(&server, &got.access_token).await;
        }
        assert_eq!(
            refusal(refresh(&server, &tokens.refresh_token).await),
            is(Code::Unauthenticated, "SESSION_ENDED")
        );
    }
}

#[on_both_backends]
async fn of_many_first_administrators_there_is_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let bootstrap = Arc::new(settings(&["--bootstrap-admin-password", TEMPORARY]));
    let starts = (0..20).map(|_| {
        let (bootstrap, secret) = (Arc::clone(&bootstrap), server.secret.clone());
        let db = server.database.db().clone();
        tokio::spawn(async move {
            spawn(
                &bootstrap,
                &ServerSettings::default(),
                db,
                &secret,
                base::clock::Clock::manual(START).0,
            )
            .await
        })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.expect("started");
    }
    assert_eq!(
        refusal(login(&server, "admin", TEMPORARY).await),
        is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED")
    );
    let admin = first_login(&server, "admin", TEMPORARY, NEW)
        .await
        .expect("logged in")
        .access_token;
    let superusers = ListUsersRequest {
        role: "superuser".to_owned(),
        show_inactive: true,
        ..ListUsersRequest::default()
    };
    assert_eq!(list(&server, &admin, superusers).await, ["admin"]);
    // Once there is one, the setting is ignored.
    let db = server.database.replica().await;
    let (_running, ..) = spawn(
        &settings(&["--bootstrap-admin-password", "x"]),
        &ServerSettings::default(),
        db,
        &server.secret,
        base::clock::Clock::manual(START).0,
    )
    .await;
    login(&server, "admin", NEW).await.expect("unchanged");
}

#[on_both_backends]
async fn those_who_stand_for_services_are_no_users(database: TestDatabase) {
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
