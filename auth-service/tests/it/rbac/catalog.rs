//! Resources, actions, permissions and roles: how they are created, read, listed, updated and
//! deleted.

use std::collections::BTreeSet;

use proto::auth::v1::{
    Action, CreateActionRequest, CreatePermissionRequest, CreateResourceRequest, CreateRoleRequest,
    DeleteActionRequest, DeletePermissionRequest, DeleteResourceRequest, DeleteRoleRequest, GetActionRequest,
    GetPermissionRequest, GetResourceRequest, GetRoleRequest, ListActionsRequest, ListPermissionsRequest,
    ListResourcesRequest, ListRolesRequest, Permission, Resource, Role, UpdateActionRequest, UpdatePermissionRequest,
    UpdateResourceRequest, UpdateRoleRequest,
};
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::Code;

use crate::support::{
    callers::{is, names, refusal, server_with_root},
    mask,
};

fn resource(code_name: &str, name: &str) -> CreateResourceRequest {
    let (code_name, name) = (code_name.to_owned(), name.to_owned());
    CreateResourceRequest {
        resource: Some(Resource {
            code_name,
            name,
            owner: "me".to_owned(),
            ..Resource::default()
        }),
    }
}

fn action(code_name: &str, name: &str) -> CreateActionRequest {
    let (code_name, name) = (code_name.to_owned(), name.to_owned());
    CreateActionRequest {
        action: Some(Action {
            code_name,
            name,
            is_reserved: true,
            ..Action::default()
        }),
    }
}

fn permission(name: &str) -> CreatePermissionRequest {
    let name = name.to_owned();
    CreatePermissionRequest {
        permission: Some(Permission {
            name,
            is_declared: true,
            ..Permission::default()
        }),
    }
}

fn role(code_name: &str, name: &str) -> CreateRoleRequest {
    let (code_name, name) = (code_name.to_owned(), name.to_owned());
    CreateRoleRequest {
        role: Some(Role {
            code_name,
            name,
            is_reserved: true,
            ..Role::default()
        }),
    }
}

#[on_both_backends]
async fn resources_are_created_read_updated_and_deleted(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    let made = root
        .create_resource(resource("invoices", ""))
        .await
        .expect("made")
        .resource
        .expect("it");
    assert_eq!(
        (made.code_name.as_str(), made.name.as_str(), made.owner.as_str()),
        ("invoices", "invoices", "")
    );
    let get = || {
        root.get_resource(GetResourceRequest {
            code_name: "invoices".to_owned(),
        })
    };
    assert_eq!(get().await.expect("it").resource.expect("it"), made);
    // The permission for all actions is created together with the resource.
    let all = root
        .get_permission(GetPermissionRequest {
            name: "invoices:all".to_owned(),
        })
        .await
        .expect("it");
    assert!(!all.permission.expect("it").is_declared);

    let new = Resource {
        code_name: "invoices".to_owned(),
        name: "Bills".to_owned(),
        description: "What is owed".to_owned(),
        ..Resource::default()
    };
    let only_name = UpdateResourceRequest {
        resource: Some(new.clone()),
        update_mask: Some(mask(&["name"])),
    };
    let changed = root
        .update_resource(only_name)
        .await
        .expect("changed")
        .resource
        .expect("it");
    assert_eq!((changed.name.as_str(), changed.description.as_str()), ("Bills", ""));
    let what_is_given = UpdateResourceRequest {
        resource: Some(Resource {
            name: String::new(),
            ..new.clone()
        }),
        update_mask: None,
    };
    let changed = root
        .update_resource(what_is_given)
        .await
        .expect("changed")
        .resource
        .expect("it");
    assert_eq!(
        (changed.name.as_str(), changed.description.as_str()),
        ("Bills", "What is owed")
    );
    let code_name = UpdateResourceRequest {
        resource: Some(new.clone()),
        update_mask: Some(mask(&["code_name"])),
    };
    assert_eq!(
        bad_fields(&root.update_resource(code_name).await.expect_err("refused")),
        ["update_mask"]
    );

    for (code_name, name) in [("invoices", "Other"), ("other", "Bills")] {
        assert_eq!(
            refusal(root.create_resource(resource(code_name, name)).await),
            is(Code::AlreadyExists, "NAME_TAKEN")
        );
    }
    let taken = UpdateResourceRequest {
        resource: Some(Resource {
            name: "users".to_owned(),
            ..new
        }),
        update_mask: Some(mask(&["name"])),
    };
    assert_eq!(
        refusal(root.update_resource(taken).await),
        is(Code::AlreadyExists, "NAME_TAKEN")
    );

    let delete = |code_name: &str| {
        root.delete_resource(DeleteResourceRequest {
            code_name: code_name.to_owned(),
            force: false,
        })
    };
    delete("invoices").await.expect("deleted");
    assert_eq!(refusal(get().await), is(Code::NotFound, "RESOURCE_NOT_FOUND"));
    assert_eq!(
        refusal(delete("invoices").await),
        is(Code::NotFound, "RESOURCE_NOT_FOUND")
    );
    assert_eq!(refusal(delete("users").await), is(Code::FailedPrecondition, "RESERVED"));
    let all = root
        .get_permission(GetPermissionRequest {
            name: "invoices:all".to_owned(),
        })
        .await;
    assert_eq!(refusal(all), is(Code::NotFound, "PERMISSION_NOT_FOUND"));
}

#[on_both_backends]
async fn actions_are_created_read_updated_and_deleted(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    let made = root
        .create_action(action("approve", ""))
        .await
        .expect("made")
        .action
        .expect("it");
    assert_eq!((made.name.as_str(), made.is_reserved), ("approve", false));
    let get = || {
        root.get_action(GetActionRequest {
            code_name: "approve".to_owned(),
        })
    };
    assert_eq!(get().await.expect("it").action.expect("it"), made);
    let new = Action {
        name: "Approve".to_owned(),
        ..made
    };
    let update = UpdateActionRequest {
        action: Some(new.clone()),
        update_mask: Some(mask(&["name"])),
    };
    assert_eq!(
        root.update_action(update).await.expect("changed").action.expect("it"),
        new
    );
    for (code_name, name) in [("approve", "Other"), ("other", "Approve")] {
        assert_eq!(
            refusal(root.create_action(action(code_name, name)).await),
            is(Code::AlreadyExists, "NAME_TAKEN")
        );
    }
    let delete = |code_name: &str| {
        root.delete_action(DeleteActionRequest {
            code_name: code_name.to_owned(),
            force: true,
        })
    };
    delete("approve").await.expect("deleted");
    assert_eq!(refusal(get().await), is(Code::NotFound, "ACTION_NOT_FOUND"));
    assert_eq!(refusal(delete("approve").await), is(Code::NotFound, "ACTION_NOT_FOUND"));
    // These are reserved: the built-in action `all`, and the actions that our own RPCs declare.
    for reserved in ["all", "read", "create", "update", "delete", "assign"] {
        assert_eq!(
            refusal(delete(reserved).await),
            is(Code::FailedPrecondition, "RESERVED"),
            "{reserved}"
        );
    }
}

#[on_both_backends]
async fn permissions_are_created_read_updated_and_deleted(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    root.make_permissions("invoices", &["approve"]).await;
    let get = || {
        root.get_permission(GetPermissionRequest {
            name: "invoices:approve".to_owned(),
        })
    };
    let made = get().await.expect("it").permission.expect("it");
    assert_eq!(
        (made.resource.as_str(), made.action.as_str(), made.is_declared),
        ("invoices", "approve", false)
    );
    let new = Permission {
        description: "May approve".to_owned(),
        ..made
    };
    let update = UpdatePermissionRequest {
        permission: Some(new.clone()),
        update_mask: Some(mask(&["description"])),
    };
    assert_eq!(
        root.update_permission(update)
            .await
            .expect("changed")
            .permission
            .expect("it"),
        new
    );
    for (name, expected) in [
        ("invoices:approve", is(Code::AlreadyExists, "NAME_TAKEN")),
        ("nothing:approve", is(Code::NotFound, "RESOURCE_NOT_FOUND")),
        ("invoices:nothing", is(Code::NotFound, "ACTION_NOT_FOUND")),
    ] {
        assert_eq!(
            refusal(root.create_permission(permission(name)).await),
            expected,
            "{name}"
        );
    }
    let malformed = Permission {
        name: "invoices:read".to_owned(),
        action: "update".to_owned(),
        ..Permission::default()
    };
    let malformed = root
        .create_permission(CreatePermissionRequest {
            permission: Some(malformed),
        })
        .await;
    assert_eq!(bad_fields(&malformed.expect_err("refused")), ["permission.name"]);
    let delete = |name: &str, force| {
        root.delete_permission(DeletePermissionRequest {
            name: name.to_owned(),
            force,
        })
    };
    root.make_role("clerk", &["invoices:approve"]).await;
    assert_eq!(
        refusal(delete("invoices:approve", false).await),
        is(Code::FailedPrecondition, "IN_USE")
    );
    delete("invoices:approve", true).await.expect("deleted");
    assert_eq!(root.permissions_of("clerk").await, names(&[]));
    assert_eq!(refusal(get().await), is(Code::NotFound, "PERMISSION_NOT_FOUND"));
    assert_eq!(
        refusal(delete("invoices:approve", true).await),
        is(Code::NotFound, "PERMISSION_NOT_FOUND")
    );
    assert_eq!(
        refusal(delete("users:read", true).await),
        is(Code::FailedPrecondition, "RESERVED")
    );
}

#[on_both_backends]
async fn roles_are_created_read_updated_and_deleted(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let made = root
        .make_role("clerk", &["users:read", "audit:read", "users:read"])
        .await;
    assert_eq!((made.name.as_str(), made.is_reserved), ("clerk", false));
    assert_eq!(made.permissions, ["audit:read", "users:read"]);
    let get = || {
        root.get_role(GetRoleRequest {
            code_name: "clerk".to_owned(),
        })
    };
    assert_eq!(get().await.expect("it").role.expect("it"), made);
    let new = Role {
        name: "Clerk".to_owned(),
        description: "Looks".to_owned(),
        ..made
    };
    let update = UpdateRoleRequest {
        role: Some(new.clone()),
        update_mask: None,
    };
    assert_eq!(root.update_role(update).await.expect("changed").role.expect("it"), new);
    for (code_name, name) in [("clerk", "Other"), ("other", "Clerk"), ("admin", "Other")] {
        assert_eq!(
            refusal(root.create_role(role(code_name, name)).await),
            is(Code::AlreadyExists, "NAME_TAKEN")
        );
    }
    let unknown = Role {
        code_name: "other".to_owned(),
        permissions: names(&["users:nothing"]),
        ..Role::default()
    };
    let unknown = root.create_role(CreateRoleRequest { role: Some(unknown) }).await;
    assert_eq!(refusal(unknown), is(Code::NotFound, "PERMISSION_NOT_FOUND"));

    let delete = |code_name: &str, force| {
        root.delete_role(DeleteRoleRequest {
            code_name: code_name.to_owned(),
            force,
        })
    };
    let holder = root.service(&server, "holder", &["clerk"], &[]).await;
    assert_eq!(
        refusal(delete("clerk", false).await),
        is(Code::FailedPrecondition, "IN_USE")
    );
    delete("clerk", true).await.expect("deleted");
    assert_eq!(refusal(get().await), is(Code::NotFound, "ROLE_NOT_FOUND"));
    assert_eq!(
        refusal(delete("clerk", true).await),
        is(Code::NotFound, "ROLE_NOT_FOUND")
    );
    let check = root.check(&holder.user_id, "users:read").await.decision.expect("one");
    assert!(!check.allowed);
    for reserved in ["superuser", "admin", "player", "service"] {
        assert_eq!(
            refusal(delete(reserved, true).await),
            is(Code::FailedPrecondition, "RESERVED"),
            "{reserved}"
        );
        let new = Role {
            code_name: reserved.to_owned(),
            name: "Mine".to_owned(),
            ..Role::default()
        };
        let update = root
            .update_role(UpdateRoleRequest {
                role: Some(new),
                update_mask: None,
            })
            .await;
        assert_eq!(refusal(update), is(Code::FailedPrecondition, "RESERVED"), "{reserved}");
    }
}

#[on_both_backends]
async fn only_superusers_change_resources_and_actions(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let admin = root.service(&server, "the-admin", &["admin"], &[]).await;
    root.make_permissions("invoices", &["approve"]).await;
    let required = is(Code::PermissionDenied, "SUPERUSER_REQUIRED");
    let of = |code_name: &str| Resource {
        code_name: code_name.to_owned(),
        ..Resource::default()
    };
    assert_eq!(refusal(admin.create_resource(resource("new", "")).await), required);
    assert_eq!(
        refusal(
            admin
                .update_resource(UpdateResourceRequest {
                    resource: Some(of("invoices")),
                    update_mask: None
                })
                .await
        ),
        required
    );
    assert_eq!(
        refusal(
            admin
                .delete_resource(DeleteResourceRequest {
                    code_name: "invoices".to_owned(),
                    force: true
                })
                .await
        ),
        required
    );
    assert_eq!(refusal(admin.create_action(action("new", "")).await), required);
    let approve = Action {
        code_name: "approve".to_owned(),
        ..Action::default()
    };
    assert_eq!(
        refusal(
            admin
                .update_action(UpdateActionRequest {
                    action: Some(approve),
                    update_mask: None
                })
                .await
        ),
        required
    );
    assert_eq!(
        refusal(
            admin
                .delete_action(DeleteActionRequest {
                    code_name: "approve".to_owned(),
                    force: true
                })
                .await
        ),
        required
    );
    assert_eq!(
        refusal(
            admin
                .get_resource(GetResourceRequest {
                    code_name: "new".to_owned()
                })
                .await
        ),
        is(Code::NotFound, "RESOURCE_NOT_FOUND")
    );
}

#[on_both_backends]
async fn every_bad_field_is_named(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    let long = "x".repeat(1001);
    let made = Resource {
        code_name: "No".to_owned(),
        name: "x".repeat(101),
        description: long.clone(),
        ..Resource::default()
    };
    let refused = root
        .create_resource(CreateResourceRequest { resource: Some(made) })
        .await
        .expect_err("refused");
    assert_eq!(
        bad_fields(&refused),
        ["resource.code_name", "resource.name", "resource.description"]
    );
    assert_eq!(
        bad_fields(
            &root
                .create_action(CreateActionRequest { action: None })
                .await
                .expect_err("refused")
        ),
        ["action.code_name"]
    );
    let made = Role {
        code_name: "a-b".to_owned(),
        permissions: names(&["users:read", "users", "a:b:c"]),
        ..Role::default()
    };
    let refused = root
        .create_role(CreateRoleRequest { role: Some(made) })
        .await
        .expect_err("refused");
    assert_eq!(
        bad_fields(&refused),
        ["role.code_name", "role.permissions[1]", "role.permissions[2]"]
    );
    let refused = root
        .create_permission(CreatePermissionRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&refused), ["permission.resource", "permission.action"]);
    let refused = root.set("role", &["x"; 1001]).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["permissions"]);
    let of_size = |page_size| {
        root.list_roles(ListRolesRequest {
            page_size,
            ..ListRolesRequest::default()
        })
    };
    assert_eq!(bad_fields(&of_size(-1).await.expect_err("refused")), ["page_size"]);
    // A size above the maximum stands for the maximum.
    of_size(101).await.expect("listed");
    let refused = root
        .list_actions(ListActionsRequest {
            page_token: "x".to_owned(),
            page_size: 0,
        })
        .await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["page_token"]);
}

#[on_both_backends]
async fn lists_are_complete_and_in_order(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    root.make_permissions("invoices", &["approve", "read"]).await;
    root.make_role("clerk", &["invoices:read"]).await;
    macro_rules! all {
        ($rpc:ident, $request:expr, $field:ident, $name:ident) => {{
            let mut listed = Vec::new();
            let mut request = $request;
            loop {
                let page = root.$rpc(request.clone()).await.expect("a page");
                assert!(page.$field.len() <= 2);
                listed.extend(page.$field.into_iter().map(|listed| listed.$name));
                if page.next_page_token.is_empty() {
                    break listed;
                }
                request.page_token = page.next_page_token;
            }
        }};
    }
    let resources = all!(
        list_resources,
        ListResourcesRequest {
            page_size: 2,
            ..ListResourcesRequest::default()
        },
        resources,
        code_name
    );
    assert!(
        resources.contains(&"rbac".to_owned()) && resources.last() == Some(&"invoices".to_owned()),
        "{resources:?}"
    );
    let actions = all!(
        list_actions,
        ListActionsRequest {
            page_size: 2,
            ..ListActionsRequest::default()
        },
        actions,
        code_name
    );
    assert_eq!(actions.iter().filter(|action| *action == "approve").count(), 1);
    let roles = all!(
        list_roles,
        ListRolesRequest {
            page_size: 2,
            ..ListRolesRequest::default()
        },
        roles,
        code_name
    );
    assert_eq!(roles.iter().collect::<BTreeSet<_>>().len(), 6, "{roles:?}");
    assert!(roles.contains(&"clerk".to_owned()));
    let of_it = ListPermissionsRequest {
        page_size: 2,
        resource: "invoices".to_owned(),
        ..ListPermissionsRequest::default()
    };
    let mut of_it = all!(list_permissions, of_it, permissions, name);
    of_it.sort();
    assert_eq!(of_it, ["invoices:all", "invoices:approve", "invoices:read"]);
    let every = all!(
        list_permissions,
        ListPermissionsRequest {
            page_size: 2,
            ..ListPermissionsRequest::default()
        },
        permissions,
        name
    );
    assert!(every.contains(&"users:all".to_owned()) && every.contains(&"access_feed:read".to_owned()));
    // The role of superusers lists no permissions, because it implies all of them.
    assert_eq!(root.permissions_of("superuser").await, names(&[]));
}
