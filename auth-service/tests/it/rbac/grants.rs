//! Roles and direct grants: how they are given, taken away and listed. You cannot give or take away
//! what you do not hold.

use std::sync::Arc;

use proto::auth::v1::{
    CreateActionRequest, CreatePermissionRequest, CreateRoleRequest, DeclaredPermission, DeletePermissionRequest,
    DeleteRoleRequest, IntrospectTokenRequest, ListUserPermissionsRequest, Permission, RegisterPoliciesRequest, Role,
    UpdatePermissionRequest, UpdateRoleRequest,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::Code;

use crate::support::{
    Server,
    callers::{Caller, eventually, is, names, refusal, server_with_root},
};

const NOBODY: &str = "00000000-0000-7000-8000-0000000000ff";

/// Asserts that this token is refused as stale, at once and repeatedly. The change that made it
/// stale has been acknowledged.
async fn assert_token_is_stale(server: &Server, token: &str) {
    let me = || server.account();
    let get = |mut client: proto::auth::v1::account_service_client::AccountServiceClient<_>| async move {
        client.get_me(with_token(proto::auth::v1::GetMeRequest {}, token)).await
    };
    for _ in 0..20 {
        assert_eq!(refusal(get(me()).await), is(Code::Unauthenticated, "TOKEN_STALE"));
    }
}

#[on_both_backends]
async fn roles_are_assigned_and_unassigned(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let ann = server.register("ann").await;
    let (id, tokens) = (ann.user.expect("ann").user_id, ann.tokens.expect("tokens"));
    assert_eq!(root.assign(&id, "admin").await.expect("given"), ["admin", "player"]);
    assert_token_is_stale(&server, &tokens.access_token).await;
    // The session survives, and its new tokens contain the role.
    let rotated = server.rotate(&tokens.refresh_token, "").await.expect("tokens");
    let ann = Caller::with_token(&server, &rotated.access_token, &id);
    assert!(ann.permissions_of("admin").await.contains(&"rbac:update".to_owned()));
    // Assigning the role again changes nothing, so the token stays valid.
    assert_eq!(root.assign(&id, "admin").await.expect("given"), ["admin", "player"]);
    assert_eq!(
        root.unassign(&id, "service").await.expect("nothing to take"),
        ["admin", "player"]
    );
    ann.permissions_of("admin").await;
    assert_eq!(root.unassign(&id, "admin").await.expect("taken"), ["player"]);
    assert_token_is_stale(&server, &rotated.access_token).await;
    for (id, role, expected) in [
        (NOBODY, "admin", "USER_NOT_FOUND"),
        (id.as_str(), "nothing", "ROLE_NOT_FOUND"),
    ] {
        assert_eq!(refusal(root.assign(id, role).await), is(Code::NotFound, expected));
        assert_eq!(refusal(root.unassign(id, role).await), is(Code::NotFound, expected));
    }
    for refused in [root.assign("x", "A").await, root.unassign("x", "A").await] {
        assert_eq!(bad_fields(&refused.expect_err("refused")), ["user_id", "role"]);
    }
}

#[on_both_backends]
async fn permissions_are_granted_and_revoked(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let ann = server.register("ann").await;
    let (id, tokens) = (ann.user.expect("ann").user_id, ann.tokens.expect("tokens"));
    assert_eq!(root.grant(&id, "rbac:read").await.expect("given"), ["rbac:read"]);
    assert_token_is_stale(&server, &tokens.access_token).await;
    let rotated = server.rotate(&tokens.refresh_token, "").await.expect("tokens");
    let ann = Caller::with_token(&server, &rotated.access_token, &id);
    ann.permissions_of("player").await;
    assert_eq!(root.grant(&id, "rbac:read").await.expect("given"), ["rbac:read"]);
    assert_eq!(
        root.revoke(&id, "users:read").await.expect("nothing to take"),
        ["rbac:read"]
    );
    ann.permissions_of("player").await;
    let held = root
        .list_user_permissions(ListUserPermissionsRequest { user_id: id.clone() })
        .await
        .expect("held");
    assert_eq!(held.roles, ["player"]);
    let direct = held
        .permissions
        .iter()
        .filter(|held| held.is_direct)
        .map(|held| held.permission.as_str());
    assert_eq!(direct.collect::<Vec<_>>(), ["rbac:read"]);
    assert_eq!(root.revoke(&id, "rbac:read").await.expect("taken"), names(&[]));
    assert_token_is_stale(&server, &rotated.access_token).await;
    for (id, permission, expected) in [
        (NOBODY, "rbac:read", "USER_NOT_FOUND"),
        (id.as_str(), "rbac:nothing", "PERMISSION_NOT_FOUND"),
    ] {
        assert_eq!(refusal(root.grant(id, permission).await), is(Code::NotFound, expected));
        assert_eq!(refusal(root.revoke(id, permission).await), is(Code::NotFound, expected));
    }
    let unknown = root
        .list_user_permissions(ListUserPermissionsRequest {
            user_id: NOBODY.to_owned(),
        })
        .await;
    assert_eq!(refusal(unknown), is(Code::NotFound, "USER_NOT_FOUND"));
    assert_eq!(
        bad_fields(&root.grant("", "x").await.expect_err("refused")),
        ["user_id", "permission"]
    );
}

#[on_both_backends]
async fn a_user_holds_at_most_a_hundred_direct_grants(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let id = server.register("ann").await.user.expect("ann").user_id;
    let actions: Vec<String> = (0..101).map(|number| format!("act_{number}")).collect();
    root.make_permissions("invoices", &actions.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    for action in &actions[..100] {
        root.grant(&id, &format!("invoices:{action}")).await.expect("granted");
    }
    let refused = root.grant(&id, "invoices:act_100").await.expect_err("one too many");
    assert_eq!(bad_fields(&refused), ["permission"]);
    assert_eq!(
        root.grant(&id, "invoices:act_0").await.expect("held already").len(),
        100
    );
}

#[on_both_backends]
async fn direct_grants_never_make_a_token_too_long(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let id = server.register("ann").await.user.expect("ann").user_id;
    // These names are as long as names can be.
    let resource = "r".repeat(64);
    let actions: Vec<String> = (0..60).map(|number| format!("{}{number:02}", "a".repeat(62))).collect();
    root.make_permissions(&resource, &actions.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let mut granted = 0;
    let refused = loop {
        match root.grant(&id, &format!("{resource}:{}", actions[granted])).await {
            Ok(_) => granted += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(bad_fields(&refused), ["permission"]);
    assert!(granted > 30, "{granted}");
    // The last name fills the token exactly. A byte more would be too much. Each name takes three
    // bytes more in the token: its quotes and a comma.
    let used = "player".len() + 3 + granted * (64 + 1 + 64 + 3);
    let room = access::token::MAX_TOKEN_LEN * 5 / 8 - used - 3;
    let [fitting, longer] = [room, room + 1].map(|len| "b".repeat(len - 64 - 1));
    let resource = "s".repeat(64);
    root.make_permissions(&resource, &[&fitting, &longer]).await;
    let refused = root.grant(&id, &format!("{resource}:{longer}")).await;
    assert_eq!(bad_fields(&refused.expect_err("too long")), ["permission"]);
    root.grant(&id, &format!("{resource}:{fitting}"))
        .await
        .expect("granted");
    granted += 1;
    let token = server.login("ann").await.access_token;
    assert!(token.len() < access::token::MAX_TOKEN_LEN, "{}", token.len());
    let me = server
        .account()
        .get_me(with_token(proto::auth::v1::GetMeRequest {}, &token))
        .await;
    assert_eq!(me.expect("the token is good").into_inner().permissions.len(), granted);
}

#[on_both_backends]
async fn role_changes_apply_to_tokens_already_issued(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_role("clerk", &["rbac:read"]).await;
    let clerk = root.service(&server, "the-clerk", &["clerk"], &[]).await;
    let read = || clerk.list_roles(proto::auth::v1::ListRolesRequest::default());
    read().await.expect("the clerk reads");
    for _ in 0..3 {
        root.set("clerk", &["users:read"]).await.expect("set");
        for _ in 0..10 {
            assert_eq!(refusal(read().await), is(Code::PermissionDenied, "PERMISSION_DENIED"));
        }
        root.set("clerk", &["rbac:all"]).await.expect("set");
        read().await.expect("the clerk reads again");
    }
    root.delete_role(DeleteRoleRequest {
        code_name: "clerk".to_owned(),
        force: true,
    })
    .await
    .expect("deleted");
    for _ in 0..10 {
        assert!(read().await.is_err());
    }
}

#[on_both_backends]
async fn role_changes_apply_at_every_replica(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let (_running, replica) = server.replica().await;
    root.make_role("clerk", &["tokens:read"]).await;
    let clerk = root.service(&server, "the-clerk", &["clerk"], &[]).await;
    let is_let_in = async || {
        let request = with_token(IntrospectTokenRequest::default(), &clerk.token);
        let answer = replica.clone().introspect_token(request).await;
        answer
            .err()
            .is_none_or(|status| !matches!(status.code(), Code::PermissionDenied | Code::Unavailable))
    };
    eventually(|| async { is_let_in().await.then_some(()) }).await;
    root.set("clerk", &[]).await.expect("set");
    eventually(|| async { (!is_let_in().await).then_some(()) }).await;
    for _ in 0..20 {
        assert!(!is_let_in().await);
    }
}

#[on_both_backends]
async fn only_superusers_force_deletions_that_affect_superusers(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_permissions("invoices", &["approve"]).await;
    root.make_role("editor", &["rbac:update", "invoices:approve"]).await;
    root.make_role("clerk", &["rbac:update"]).await;
    let editor = root.service(&server, "the-editor", &["editor"], &[]).await;
    root.assign(&root.user_id, "clerk").await.expect("assigned");
    let required = is(Code::PermissionDenied, "SUPERUSER_REQUIRED");
    let mut root = root;
    root.sign_in(&server).await;
    root.grant(&root.user_id, "invoices:approve").await.expect("granted");
    root.sign_in(&server).await;
    let role = || DeleteRoleRequest {
        code_name: "clerk".to_owned(),
        force: true,
    };
    let permission = || DeletePermissionRequest {
        name: "invoices:approve".to_owned(),
        force: true,
    };
    assert_eq!(refusal(editor.delete_role(role()).await), required);
    assert_eq!(refusal(editor.delete_permission(permission()).await), required);
    root.delete_role(role()).await.expect("deleted");
    root.sign_in(&server).await;
    root.delete_permission(permission()).await.expect("deleted");
}

#[on_both_backends]
async fn deleting_a_permission_makes_tokens_with_a_direct_grant_stale(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_permissions("invoices", &["approve"]).await;
    let ann = server.register("ann").await;
    let (id, refresh) = (
        ann.user.expect("ann").user_id,
        ann.tokens.expect("tokens").refresh_token,
    );
    root.grant(&id, "invoices:approve").await.expect("granted");
    let token = server.rotate(&refresh, "").await.expect("tokens").access_token;
    let request = DeletePermissionRequest {
        name: "invoices:approve".to_owned(),
        force: true,
    };
    root.delete_permission(request).await.expect("deleted");
    assert_token_is_stale(&server, &token).await;
}

#[on_both_backends]
async fn set_role_permissions_validates_its_request(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    assert_eq!(
        refusal(root.set("superuser", &[]).await),
        is(Code::FailedPrecondition, "RESERVED")
    );
    assert_eq!(
        refusal(root.set("nothing", &[]).await),
        is(Code::NotFound, "ROLE_NOT_FOUND")
    );
    assert_eq!(
        refusal(root.set("player", &["users:nothing"]).await),
        is(Code::NotFound, "PERMISSION_NOT_FOUND")
    );
    assert_eq!(
        bad_fields(&root.set("X", &["x"]).await.expect_err("refused")),
        ["role", "permissions[0]"]
    );
    let role = root
        .set("admin", &["users:read", "audit:read", "users:read"])
        .await
        .expect("set");
    assert_eq!(role.permissions, ["audit:read", "users:read"]);
    assert_eq!(root.permissions_of("admin").await, role.permissions);
}

#[on_both_backends]
async fn a_role_editor_cannot_gain_permissions(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_role("editor", &["rbac:update", "rbac:assign", "rbac:read"])
        .await;
    root.make_permissions("invoices", &["approve"]).await;
    let editor = root.service(&server, "the-editor", &["editor"], &[]).await;
    let friend = root.service(&server, "the-friend", &["admin"], &[]).await;
    let exceeds = is(Code::PermissionDenied, "GRANT_EXCEEDS_OWN");
    let superuser = is(Code::PermissionDenied, "SUPERUSER_REQUIRED");

    let own = ["rbac:update", "rbac:assign", "rbac:read"];
    for more in [
        "users:read",
        "rbac:all",
        "invoices:all",
        "invoices:approve",
        "rbac:check",
    ] {
        assert_eq!(
            refusal(editor.set("editor", &[&own[..], &[more]].concat()).await),
            exceeds,
            "{more}"
        );
        assert_eq!(refusal(editor.set("player", &[more]).await), exceeds, "{more}");
        assert_eq!(refusal(editor.grant(&editor.user_id, more).await), exceeds, "{more}");
        assert_eq!(refusal(editor.grant(&friend.user_id, more).await), exceeds, "{more}");
        let role = Role {
            code_name: "mine".to_owned(),
            permissions: names(&[more]),
            ..Role::default()
        };
        assert_eq!(
            refusal(editor.create_role(CreateRoleRequest { role: Some(role) }).await),
            exceeds,
            "{more}"
        );
    }
    assert_eq!(refusal(editor.assign(&editor.user_id, "admin").await), exceeds);
    assert_eq!(refusal(editor.assign(&editor.user_id, "service").await), exceeds);
    assert_eq!(refusal(editor.assign(&editor.user_id, "superuser").await), superuser);
    assert_eq!(refusal(friend.assign(&friend.user_id, "superuser").await), superuser);
    // An editor cannot act on superusers.
    assert_eq!(refusal(editor.unassign(&root.user_id, "superuser").await), superuser);
    assert_eq!(refusal(editor.assign(&root.user_id, "player").await), superuser);
    assert_eq!(refusal(editor.grant(&root.user_id, "rbac:read").await), superuser);
    assert_eq!(refusal(editor.revoke(&root.user_id, "rbac:read").await), superuser);
    // Creating a permission does not help the editor, because nobody holds the new permission.
    let made = Permission {
        name: "users:approve".to_owned(),
        ..Permission::default()
    };
    editor
        .create_permission(CreatePermissionRequest { permission: Some(made) })
        .await
        .expect("made");
    assert_eq!(refusal(editor.grant(&editor.user_id, "users:approve").await), exceeds);
    let made = proto::auth::v1::Action {
        code_name: "mine".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        refusal(editor.create_action(CreateActionRequest { action: Some(made) }).await),
        superuser
    );
    // Declaring policies needs a permission that the editor does not hold.
    let declared = DeclaredPermission {
        resource: "mine".to_owned(),
        action: "read".to_owned(),
        default_roles: names(&["editor"]),
    };
    let refused = editor
        .register_policies(RegisterPoliciesRequest {
            permissions: vec![declared],
        })
        .await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "PERMISSION_DENIED"));

    // The editor may give what it holds itself, and what every player holds.
    editor.set("player", &["rbac:read"]).await.expect("set");
    editor.grant(&friend.user_id, "rbac:update").await.expect("granted");
    // After all these attempts, the editor holds exactly what it held before.
    let held = root
        .list_user_permissions(ListUserPermissionsRequest {
            user_id: editor.user_id.clone(),
        })
        .await
        .expect("held");
    let held: Vec<String> = held.permissions.into_iter().map(|held| held.permission).collect();
    assert_eq!(held, ["rbac:assign", "rbac:read", "rbac:update"]);
}

#[on_both_backends]
async fn permissions_that_you_do_not_hold_cannot_be_taken_away(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let own = ["rbac:all"];
    root.make_role("janitor", &own).await;
    root.make_permissions("invoices", &["approve"]).await;
    root.make_role("clerk", &["invoices:approve", "rbac:read"]).await;
    let janitor = root.service(&server, "the-janitor", &["janitor"], &[]).await;
    let chief = root
        .service(
            &server,
            "the-chief",
            &["admin", "clerk"],
            &["invoices:approve", "rbac:read"],
        )
        .await;
    let exceeds = is(Code::PermissionDenied, "GRANT_EXCEEDS_OWN");
    let held_by_admins = root.permissions_of("admin").await;

    // Emptying the role of administrators first, so that it can be taken away afterwards, is
    // refused as well.
    assert_eq!(refusal(janitor.set("admin", &[]).await), exceeds);
    assert_eq!(refusal(janitor.set("clerk", &["invoices:approve"]).await), exceeds);
    assert_eq!(refusal(janitor.set("clerk", &["rbac:read"]).await), exceeds);
    let renamed = Role {
        code_name: "clerk".to_owned(),
        name: "X".to_owned(),
        ..Role::default()
    };
    assert_eq!(
        refusal(
            janitor
                .update_role(UpdateRoleRequest {
                    role: Some(renamed),
                    update_mask: None
                })
                .await
        ),
        exceeds
    );
    // Without `force` either, the caller does not learn that the role and the permission are held.
    for force in [true, false] {
        let role = DeleteRoleRequest {
            code_name: "clerk".to_owned(),
            force,
        };
        assert_eq!(refusal(janitor.delete_role(role).await), exceeds, "force: {force}");
        let permission = DeletePermissionRequest {
            name: "invoices:approve".to_owned(),
            force,
        };
        let refused = refusal(janitor.delete_permission(permission).await);
        assert_eq!(refused, exceeds, "force: {force}");
    }
    let described = Permission {
        name: "invoices:approve".to_owned(),
        description: "X".to_owned(),
        ..Permission::default()
    };
    let update = UpdatePermissionRequest {
        permission: Some(described),
        update_mask: None,
    };
    assert_eq!(refusal(janitor.update_permission(update).await), exceeds);
    // Even a permission that the caller holds cannot be taken from a user who holds more.
    assert_eq!(refusal(janitor.unassign(&chief.user_id, "admin").await), exceeds);
    assert_eq!(
        refusal(janitor.revoke(&chief.user_id, "invoices:approve").await),
        exceeds
    );
    assert_eq!(refusal(janitor.revoke(&chief.user_id, "rbac:read").await), exceeds);
    assert_eq!(root.permissions_of("admin").await, held_by_admins);
    assert_eq!(root.permissions_of("clerk").await, ["invoices:approve", "rbac:read"]);

    // Callers may take away what they hold themselves, and give up everything of their own.
    root.make_role("reader", &["rbac:read"]).await;
    let peer = root.service(&server, "the-peer", &["reader"], &["rbac:read"]).await;
    janitor.revoke(&peer.user_id, "rbac:read").await.expect("taken");
    janitor.unassign(&peer.user_id, "reader").await.expect("taken");
    janitor.set("reader", &[]).await.expect("emptied");
    janitor
        .delete_role(DeleteRoleRequest {
            code_name: "reader".to_owned(),
            force: false,
        })
        .await
        .expect("deleted");
    janitor.unassign(&janitor.user_id, "janitor").await.expect("given up");
}

#[on_both_backends]
async fn refusals_and_successes_are_in_the_audit_log(database: TestDatabase) {
    use diesel_async::RunQueryDsl as _;
    let (server, root) = server_with_root(database).await;
    let admin = root.service(&server, "the-admin", &["admin"], &[]).await;
    let id = server.register("ann").await.user.expect("ann").user_id;
    let _ = admin.assign(&id, "superuser").await.expect_err("refused");
    let _ = admin.grant(&id, "access_feed:read").await.expect_err("refused");
    admin.grant(&id, "users:read").await.expect("granted");
    root.make_role("follower", &["access_feed:read"]).await;
    let renamed = Role {
        code_name: "follower".to_owned(),
        name: "X".to_owned(),
        ..Role::default()
    };
    let update = UpdateRoleRequest {
        role: Some(renamed),
        update_mask: None,
    };
    let _ = admin.update_role(update).await.expect_err("refused");
    let described = Permission {
        name: "access_feed:read".to_owned(),
        description: "X".to_owned(),
        ..Permission::default()
    };
    let update = UpdatePermissionRequest {
        permission: Some(described),
        update_mask: None,
    };
    let _ = admin.update_permission(update).await.expect_err("refused");
    let mut conn = server.database.db().read().await.expect("a connection");
    let sql = "SELECT action || ' ' || outcome || ' ' || reason AS text FROM audit_events WHERE actor_client_id = \
        'the-admin' ORDER BY event_time, id";
    let rows: db::Result<Vec<Text>> = db::query!(&mut conn, |c| diesel::sql_query(sql).load(c).await);
    let rows: Vec<String> = rows.expect("rows").into_iter().map(|row| row.text).collect();
    assert_eq!(
        rows,
        [
            "role.assign failure SUPERUSER_REQUIRED",
            "permission.grant failure GRANT_EXCEEDS_OWN",
            "permission.grant success ",
            "role.update failure GRANT_EXCEEDS_OWN",
            "permission.update failure GRANT_EXCEEDS_OWN"
        ]
    );
}

#[on_both_backends]
async fn the_last_superuser_cannot_be_unassigned(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    assert_eq!(
        refusal(root.unassign(&root.user_id, "superuser").await),
        is(Code::FailedPrecondition, "LAST_ADMIN")
    );
    // If two superusers give up the role at the same time, one of them keeps it.
    let second = root.service(&server, "second", &["superuser"], &[]).await;
    let (one, other) = tokio::join!(
        root.unassign(&root.user_id, "superuser"),
        second.unassign(&second.user_id, "superuser")
    );
    assert_eq!(
        usize::from(one.is_ok()) + usize::from(other.is_ok()),
        1,
        "{one:?} {other:?}"
    );
}

#[on_both_backends]
async fn the_feed_matches_the_roles_after_concurrent_changes(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_role("clerk", &["rbac:read", "users:read"]).await;
    let declarer = Arc::new(root.service(&server, "declarer", &["service"], &[]).await);
    let mut tasks = Vec::new();
    for number in 0..12 {
        let (root, declarer) = (root.clone(), Arc::clone(&declarer));
        tasks.push(tokio::spawn(async move {
            let action = format!("act_{number}");
            let declared = DeclaredPermission {
                resource: "things".to_owned(),
                action,
                default_roles: names(&["clerk"]),
            };
            declarer
                .register_policies(RegisterPoliciesRequest {
                    permissions: vec![declared],
                })
                .await
                .map(|_| ())
        }));
        tasks.push(tokio::spawn(async move {
            let mine = if number % 2 == 0 { ["rbac:read"] } else { ["users:read"] };
            root.set("clerk", &mine).await.map(|_| ())
        }));
    }
    for task in tasks {
        let done = task.await.expect("joined");
        // A concurrent change may have aborted this one, which then had no effect.
        assert!(
            done.as_ref().is_ok_and(|()| true) || done.as_ref().is_err_and(|status| status.code() == Code::Aborted),
            "{done:?}"
        );
    }
    let holds = root.permissions_of("clerk").await;
    let watched = crate::feed::stream::roles(server.grpc, &declarer.token).await;
    assert_eq!(watched.get("clerk"), Some(&holds));
}

#[derive(diesel::QueryableByName)]
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}
