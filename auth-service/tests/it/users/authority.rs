//! Limits on what an administrator may do to other users, and the protection of the last superuser.

use std::sync::Arc;

use proto::auth::v1::{
    CreateRoleRequest, DeactivateUserRequest, DeleteMeRequest, DeleteUserRequest, ListUsersRequest,
    RevokeUserTokensRequest, Role, UpdateUserRequest, User, rbac_service_client::RbacServiceClient,
    user_service_client::UserServiceClient,
};
use server::ServerSettings;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{channel, with_token},
};
use tokio::sync::Barrier;
use tonic::Code;

use crate::support::{
    PASSWORD, START, Server,
    callers::{is, refusal},
    execute, settings, spawn,
};

use super::calls::{
    NEW, TEMPORARY, administered, create, deactivate, delete, first_login, list, login, me, new_user, reactivate,
    set_password, users,
};

#[on_both_backends]
async fn you_cannot_act_on_users_who_hold_more(database: TestDatabase) {
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
    create(&server, &admin, "helper", &["support"]).await;
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
    // The helper may manage users who hold no more than every player does, although the helper is
    // not a player.
    set_password(&server, &helper, &ann).await.expect("set");
    rename(&ann, email("ann2@example.test")).await.expect("changed");
    deactivate(&server, &helper, &ann).await.expect("deactivated");
    delete(&server, &helper, &ann).await.expect("deleted");
}

#[on_both_backends]
async fn the_last_superuser_can_neither_be_deactivated_nor_deleted(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let root = me(&server, &admin).await.expect("me").user_id;
    let last = is(Code::FailedPrecondition, "LAST_ADMIN");
    assert_eq!(refusal(deactivate(&server, &admin, &root).await), last);
    let request = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..DeleteMeRequest::default()
    };
    assert_eq!(
        refusal(server.account().delete_me(with_token(request, &admin)).await),
        last
    );
    me(&server, &admin).await.expect("nothing happened");
    // A deactivated superuser does not count.
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
async fn an_administrator_with_revoked_tokens_is_refused_before_the_feed_arrives(database: TestDatabase) {
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
    // The database has the change already, but the replica has not heard of it: this update
    // bypasses the feed.
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
    let unassign = proto::auth::v1::UnassignRoleRequest {
        user_id: ann,
        role: "admin".to_owned(),
    };
    // Nor may she act on herself.
    assert_eq!(refusal(rbac.unassign_role(with_token(unassign, &anns)).await), stale);
    let unlock = proto::auth::v1::UnlockUserRequest { user_id: bob };
    assert_eq!(
        refusal(users(&server).unlock_user(with_token(unlock, &anns)).await),
        stale
    );
}

#[on_both_backends]
async fn a_deactivated_or_logged_out_administrator_is_refused_before_the_feed_arrives(database: TestDatabase) {
    let (server, admin) = administered(database).await;
    let bob = create(&server, &admin, "bob", &["player"]).await;
    for (login, quietly, expected) in [
        (
            "ann",
            "UPDATE users SET is_active = FALSE WHERE login = 'ann'",
            "TOKEN_STALE",
        ),
        (
            "eve",
            "UPDATE sessions SET end_time = create_time, end_reason = 'logout' \
             WHERE user_id = (SELECT id FROM users WHERE login = 'eve')",
            "TOKEN_REVOKED",
        ),
    ] {
        create(&server, &admin, login, &["player", "admin"]).await;
        let token = first_login(&server, login, TEMPORARY, NEW).await.expect("logged in");
        // The database has the change already, but nothing has told the verifier.
        execute(&server, quietly).await;
        assert_eq!(
            refusal(deactivate(&server, &token.access_token, &bob).await),
            is(Code::Unauthenticated, expected)
        );
    }
}

#[on_both_backends]
async fn administrative_rpcs_are_refused_on_your_own_account(database: TestDatabase) {
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
async fn concurrent_starts_create_one_first_administrator(database: TestDatabase) {
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
    // Once there is an administrator, the setting is ignored.
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
