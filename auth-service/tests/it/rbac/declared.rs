//! Permission checks, and permissions that other services declare.

use std::collections::BTreeSet;

use proto::auth::v1::{
    BatchCheckPermissionsRequest, DeactivateUserRequest, DeclaredPermission, DeleteActionRequest,
    DeletePermissionRequest, DeleteResourceRequest, DeleteServiceAccountRequest, GetResourceRequest, PermissionCheck,
    RegisterPoliciesRequest, permission_decision::Reason, service_account_service_client::ServiceAccountServiceClient,
    user_service_client::UserServiceClient,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, reason, with_token},
};
use tonic::Code;

use crate::support::{
    callers::{Caller, is, names, refusal, server_with_root},
    count, execute,
};

const NOBODY: &str = "00000000-0000-7000-8000-0000000000ff";

fn declared(resource: &str, action: &str, default_roles: &[&str]) -> DeclaredPermission {
    DeclaredPermission {
        resource: resource.to_owned(),
        action: action.to_owned(),
        default_roles: names(default_roles),
    }
}

async fn register(service: &Caller, permissions: &[DeclaredPermission]) -> Result<Vec<String>, tonic::Status> {
    let request = RegisterPoliciesRequest {
        permissions: permissions.to_vec(),
    };
    Ok(service.register_policies(request).await?.created_permissions)
}

#[on_both_backends]
async fn declared_permissions_are_limited_per_service_and_role(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let rogue = root.service(&server, "rogue", &["service"], &[]).await;
    let many = |resource: &str, from: usize, count: usize, roles: &[&str]| {
        (from..from + count)
            .map(|number| declared(resource, &format!("act_{number}"), roles))
            .collect::<Vec<_>>()
    };
    register(&rogue, &many("mine", 0, 499, &["player"]))
        .await
        .expect("registered");
    register(&rogue, &many("other", 0, 1, &["player"]))
        .await
        .expect("registered");
    let refused = register(&rogue, &many("other", 1, 1, &[])).await.expect_err("too many");
    assert_eq!(bad_fields(&refused), ["permissions"]);
    // Declaring the same permissions again is allowed.
    register(&rogue, &many("mine", 0, 499, &["player"]))
        .await
        .expect("registered");

    // Several services together cannot fill a role that every user has.
    let second = root.service(&server, "second", &["service"], &[]).await;
    register(&second, &many("second", 0, 400, &["player"]))
        .await
        .expect("registered");
    let third = root.service(&server, "third", &["service"], &[]).await;
    let refused = register(&third, &many("third", 0, 400, &["player"]))
        .await
        .expect_err("too many");
    assert_eq!(bad_fields(&refused), ["permissions"]);
    assert!(refused.message().contains("the role player can hold"), "{refused:?}");
    assert!(root.permissions_of("player").await.len() <= 1000);
    assert_eq!(
        register(&third, &many("third", 0, 400, &[]))
            .await
            .expect("registered")
            .len(),
        400
    );

    // A declaration locks the permissions of all roles, so their number is limited.
    let mut accepted = 0;
    let refused = loop {
        match register(&third, &many("third", 0, 1, &[])).await {
            Ok(_) => accepted += 1,
            Err(status) => break reason(&status),
        }
        assert!(accepted < 3000, "there is no limit");
    };
    assert_eq!(refused, "TOO_MANY_ATTEMPTS");
    assert!(accepted > 200, "hundreds of replicas may start at once: {accepted}");
    register(&second, &many("second", 0, 1, &[])).await.expect("registered");
}

#[on_both_backends]
async fn a_service_cannot_take_over_a_resource_of_an_administrator(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_permissions("invoices", &["approve"]).await;
    let rogue = root.service(&server, "rogue", &["service"], &[]).await;
    for action in ["approve", "refund"] {
        let refused = register(&rogue, &[declared("invoices", action, &["player"])]).await;
        assert_eq!(
            refusal(refused),
            is(Code::PermissionDenied, "RESOURCE_OWNED"),
            "{action}"
        );
    }
    assert!(
        !root
            .permissions_of("player")
            .await
            .iter()
            .any(|held| held.starts_with("invoices:"))
    );
}

#[on_both_backends]
async fn a_check_explains_its_decision(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_permissions("invoices", &["read", "approve"]).await;
    root.make_role("clerk", &["invoices:read"]).await;
    root.make_role("boss", &["invoices:all"]).await;
    let clerk = root.service(&server, "the-clerk", &["clerk"], &[]).await.user_id;
    let boss = root.service(&server, "the-boss", &["boss"], &[]).await.user_id;
    let both = root.service(&server, "the-both", &["boss", "clerk"], &[]).await.user_id;
    let direct = root
        .service(&server, "direct", &[], &["invoices:approve"])
        .await
        .user_id;
    let direct_all = root
        .service(&server, "direct-all", &[], &["invoices:all"])
        .await
        .user_id;
    let gone = server.register("ann").await.user.expect("ann").user_id;
    root.grant(&gone, "invoices:read").await.expect("granted");
    let deactivate = DeactivateUserRequest { user_id: gone.clone() };
    UserServiceClient::new(channel(server.grpc))
        .deactivate_user(with_token(deactivate, &root.token))
        .await
        .expect("deactivated");
    let cases = [
        (
            root.user_id.as_str(),
            "invoices:approve",
            Reason::Superuser,
            "superuser",
            "invoices:approve",
        ),
        (&clerk, "invoices:read", Reason::Role, "clerk", "invoices:read"),
        (&clerk, "invoices:approve", Reason::NotGranted, "", ""),
        (&boss, "invoices:approve", Reason::Role, "boss", "invoices:all"),
        (&boss, "invoices:all", Reason::Role, "boss", "invoices:all"),
        (&both, "invoices:read", Reason::Role, "clerk", "invoices:read"),
        (&direct, "invoices:approve", Reason::DirectGrant, "", "invoices:approve"),
        (&direct, "invoices:read", Reason::NotGranted, "", ""),
        (&direct_all, "invoices:read", Reason::DirectGrant, "", "invoices:all"),
        (&gone, "invoices:read", Reason::UserInactive, "", ""),
        (NOBODY, "invoices:read", Reason::UserUnknown, "", ""),
        (&clerk, "invoices:nothing", Reason::PermissionUnknown, "", ""),
    ];
    let checks = cases.iter().map(|(user_id, permission, ..)| PermissionCheck {
        user_id: (*user_id).to_owned(),
        permission: (*permission).to_owned(),
    });
    let batch = root
        .batch_check_permissions(BatchCheckPermissionsRequest {
            checks: checks.collect(),
        })
        .await
        .expect("answers");
    assert_eq!(batch.decisions.len(), cases.len());
    for ((user_id, permission, reason, role, via), of_batch) in cases.into_iter().zip(batch.decisions) {
        let decision = root.check(user_id, permission).await.decision.expect("a decision");
        let allowed = matches!(reason, Reason::Superuser | Reason::Role | Reason::DirectGrant);
        assert_eq!(
            (decision.allowed, decision.reason(), decision.via.as_str()),
            (allowed, reason, via),
            "{permission} {decision:?}"
        );
        if reason != Reason::Superuser {
            assert_eq!(decision.role, role, "{decision:?}");
        }
        assert!(decision.explanation.contains(permission), "{decision:?}");
        assert_eq!(decision, of_batch);
    }
}

#[on_both_backends]
async fn a_check_names_its_position_in_the_feed(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let before = root.check(NOBODY, "users:read").await;
    root.make_role("clerk", &["users:read"]).await;
    let after = root.check(NOBODY, "users:read").await;
    assert_eq!(
        (after.epoch.as_str(), after.sequence),
        (before.epoch.as_str(), before.sequence + 1)
    );
    let service = root.service(&server, "the-service", &["service"], &[]).await;
    let of_the_feed = crate::feed::stream::position(server.grpc, &service.token).await;
    let now = service.check(NOBODY, "users:read").await;
    assert_eq!((now.epoch, now.sequence), of_the_feed);
    assert!(now.sequence >= after.sequence);
}

#[on_both_backends]
async fn malformed_checks_are_refused(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    let check = |user_id: &str, permission: &str| PermissionCheck {
        user_id: user_id.to_owned(),
        permission: permission.to_owned(),
    };
    let batch = async |checks: Vec<PermissionCheck>| {
        root.batch_check_permissions(BatchCheckPermissionsRequest { checks })
            .await
    };
    for number in [0, 101] {
        let refused = batch(vec![check(NOBODY, "users:read"); number])
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), ["checks"]);
    }
    assert_eq!(
        batch(vec![check(NOBODY, "users:read"); 100])
            .await
            .expect("answers")
            .decisions
            .len(),
        100
    );
    let refused = batch(vec![check(NOBODY, "users:read"), check("x", "y")])
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&refused), ["checks[1].user_id", "checks[1].permission"]);
}

#[on_both_backends]
async fn a_declared_permission_goes_to_its_default_roles_only_once(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let service = root.service(&server, "the-shop", &["service"], &[]).await;
    let mine = [
        declared("wares", "read", &["player", "admin"]),
        declared("wares", "buy", &["player"]),
    ];
    assert_eq!(
        register(&service, &mine).await.expect("declared"),
        ["wares:buy", "wares:read"]
    );
    let resource = root
        .get_resource(GetResourceRequest {
            code_name: "wares".to_owned(),
        })
        .await
        .expect("it")
        .resource
        .expect("it");
    assert_eq!(resource.owner, "the-shop");
    assert!(root.permissions_of("player").await.contains(&"wares:buy".to_owned()));
    // A role that lost a permission does not get it back when the permission is declared again.
    root.set("player", &[]).await.expect("set");
    assert_eq!(register(&service, &mine).await.expect("declared"), names(&[]));
    assert_eq!(root.permissions_of("player").await, names(&[]));
    let delete = DeleteResourceRequest {
        code_name: "wares".to_owned(),
        force: true,
    };
    assert_eq!(
        refusal(root.delete_resource(delete).await),
        is(Code::FailedPrecondition, "RESERVED")
    );
}

#[on_both_backends]
async fn a_declaration_cannot_grant_existing_permissions(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let service = root.service(&server, "the-shop", &["service"], &[]).await;
    let other = root.service(&server, "the-other", &["service"], &[]).await;
    root.make_permissions("invoices", &["approve"]).await;
    let before = root.permissions_of("service").await;
    register(&other, &[declared("others", "read", &[])])
        .await
        .expect("declared");
    // These resources belong to auth-service, to another service, and to an administrator.
    for (resource, action) in [
        ("users", "read"),
        ("rbac", "anything"),
        ("others", "read"),
        ("others", "more"),
        ("invoices", "approve"),
    ] {
        let refused = register(
            &service,
            &[
                declared("wares", "read", &["service"]),
                declared(resource, action, &["service"]),
            ],
        )
        .await;
        assert_eq!(
            refusal(refused),
            is(Code::PermissionDenied, "RESOURCE_OWNED"),
            "{resource}:{action}"
        );
    }
    // A declaration takes effect as a whole or not at all, so `wares` does not exist either.
    let wares = root
        .get_resource(GetResourceRequest {
            code_name: "wares".to_owned(),
        })
        .await;
    assert_eq!(refusal(wares), is(Code::NotFound, "RESOURCE_NOT_FOUND"));
    assert_eq!(root.permissions_of("service").await, before);

    let unknown = register(&service, &[declared("wares", "read", &["nothing"])]).await;
    assert_eq!(refusal(unknown), is(Code::NotFound, "ROLE_NOT_FOUND"));
    let refused = register(
        &service,
        &[
            declared("wares", "all", &[]),
            declared("A", "b-c", &["X"]),
            declared("wares", "read", &["superuser"]),
        ],
    )
    .await
    .expect_err("refused");
    let bad: BTreeSet<String> = bad_fields(&refused).into_iter().collect();
    let expected = [
        "permissions[0].action",
        "permissions[1].action",
        "permissions[1].default_roles",
        "permissions[1].resource",
        "permissions[2].default_roles",
    ];
    assert_eq!(bad.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(
        bad_fields(&register(&service, &[]).await.expect_err("refused")),
        ["permissions"]
    );
    assert_eq!(root.permissions_of("service").await, before);
}

#[on_both_backends]
async fn declarations_are_limited_and_can_be_deleted_after_their_service(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let shop = root.service(&server, "the-shop", &["service"], &[]).await;
    let wares: Vec<_> = (0..200)
        .map(|index| declared("wares", &format!("act_{index}"), &[]))
        .collect();
    let others: Vec<_> = (0..200)
        .map(|index| declared(&format!("wares_{index}"), "read", &[]))
        .collect();
    register(&shop, &wares).await.expect("declared");
    // The resource `wares` counts towards the limit, too.
    register(&shop, &others[..199]).await.expect("declared");
    assert_eq!(
        bad_fields(&register(&shop, &others[199..]).await.expect_err("too many")),
        ["permissions"]
    );
    // A declared resource cannot be deleted before its service is.
    let delete = || DeleteResourceRequest {
        code_name: "wares".to_owned(),
        force: true,
    };
    assert_eq!(
        refusal(root.delete_resource(delete()).await),
        is(Code::FailedPrecondition, "RESERVED")
    );
    let mut accounts = ServiceAccountServiceClient::new(channel(server.grpc));
    let mut delete_account = async || {
        let gone = DeleteServiceAccountRequest {
            client_id: "the-shop".to_owned(),
        };
        accounts
            .delete_service_account(with_token(gone, &root.token))
            .await
            .expect("deleted");
    };
    delete_account().await;

    // The account is created again. Its service goes on as before. Another one cannot have the
    // resource, neither before nor after.
    let other = root.service(&server, "the-other", &["service"], &[]).await;
    assert_eq!(
        refusal(register(&other, &wares).await),
        is(Code::PermissionDenied, "RESOURCE_OWNED")
    );
    let shop = root.service(&server, "the-shop", &["service"], &[]).await;
    assert_eq!(register(&shop, &wares).await.expect("declared"), Vec::<String>::new());
    assert_eq!(
        refusal(register(&other, &wares).await),
        is(Code::PermissionDenied, "RESOURCE_OWNED")
    );
    let permission = || DeletePermissionRequest {
        name: "wares:act_0".to_owned(),
        force: true,
    };
    let action = || DeleteActionRequest {
        code_name: "act_1".to_owned(),
        force: true,
    };
    for refused in [
        refusal(root.delete_resource(delete()).await),
        refusal(root.delete_permission(permission()).await),
        refusal(root.delete_action(action()).await),
    ] {
        assert_eq!(refused, is(Code::FailedPrecondition, "RESERVED"));
    }

    delete_account().await;
    root.delete_permission(permission()).await.expect("deleted");
    root.delete_action(action()).await.expect("deleted");
    root.delete_resource(delete()).await.expect("deleted");
}

#[on_both_backends]
async fn replicas_can_declare_the_same_permissions_concurrently(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let service = root.service(&server, "the-shop", &["service"], &[]).await;
    let mine: Vec<_> = ["read", "buy", "sell", "return"]
        .iter()
        .map(|action| declared("wares", action, &["player"]))
        .collect();
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (service, mut mine) = (service.clone(), mine.clone());
            // The replicas declare the permissions in different orders.
            mine.rotate_left(number % 4);
            tokio::spawn(async move { register(&service, &mine).await })
        })
        .collect();
    let mut created = Vec::new();
    for task in tasks {
        created.extend(task.await.expect("joined").expect("declared"));
    }
    assert_eq!(created, ["wares:buy", "wares:read", "wares:return", "wares:sell"]);
}

#[on_both_backends]
async fn a_new_built_in_role_is_given_existing_permissions_once(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let chess = root.service(&server, "chess", &["service"], &[]).await;
    let other = root.service(&server, "other", &["service"], &[]).await;
    // Both services declared their permissions before there was a role `guest`, as the migration
    // found them.
    let before = [
        declared("boards", "read", &["player"]),
        declared("boards", "write", &["player"]),
    ];
    register(&chess, &before).await.expect("registered");
    register(&other, &[declared("cards", "read", &["player"])])
        .await
        .expect("registered");
    let mark = "INSERT INTO new_role_permissions (role_id, permission_id) SELECT roles.id, permissions.id \
        FROM roles CROSS JOIN permissions WHERE roles.code_name = 'guest' AND permissions.is_declared";
    execute(&server, mark).await;
    // A replica of the previous version restarts, and knows nothing of guests.
    register(&chess, &before).await.expect("registered");
    assert_eq!(root.permissions_of("guest").await, Vec::<String>::new());
    // The new version does. A permission that is new as well needs no mark.
    let after = [
        declared("boards", "read", &["player", "guest"]),
        declared("boards", "write", &["player"]),
        declared("boards", "watch", &["player", "guest"]),
    ];
    assert_eq!(register(&chess, &after).await.expect("registered"), ["boards:watch"]);
    assert_eq!(root.permissions_of("guest").await, ["boards:read", "boards:watch"]);
    let filled = "audit_events WHERE action = 'policies.register' AND details LIKE '%guest%'";
    assert_eq!(count(server.database.db(), filled).await, 1);
    // From then on, administrators decide.
    root.set("guest", &["boards:watch"]).await.expect("set");
    let more = [
        declared("boards", "read", &["player", "guest"]),
        declared("boards", "write", &["player", "guest"]),
    ];
    register(&chess, &more).await.expect("registered");
    assert_eq!(root.permissions_of("guest").await, ["boards:watch"]);
    // An administrator who has decided before the service declares is respected as well.
    register(&other, &[declared("cards", "read", &["player", "guest"])])
        .await
        .expect("registered");
    assert_eq!(root.permissions_of("guest").await, ["boards:watch"]);
    // No service can fill the role with the permissions of another.
    execute(&server, mark).await;
    let refused = register(&other, &[declared("boards", "write", &["guest"])]).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "RESOURCE_OWNED"));
    // Followers learn of a role that is filled without a new permission.
    assert_eq!(
        register(&other, &[declared("cards", "read", &["guest"])])
            .await
            .expect("registered"),
        Vec::<String>::new()
    );
    let guest = crate::guests::guest(&server).await;
    assert!(
        root.check(&guest.user_id, "cards:read")
            .await
            .decision
            .expect("a decision")
            .allowed
    );
}
