//! Administration of guests, and the role that they have.

use proto::auth::v1::{UpdateUserRequest, User};
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::Code;

use super::{guest, login_guest, upgrade, upgrade_to};
use crate::{
    support::{
        callers::{Caller, is, refusal, server_with_root},
        count,
    },
    users::calls::{deactivate, delete, me, new_user, set_password, users},
};

#[on_both_backends]
async fn a_guest_has_the_role_guest_and_nobody_else_has(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let guest = guest(&server).await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    root.make_permissions("invoices", &["read"]).await;
    let of_guest = is(Code::FailedPrecondition, "GUEST_ACCOUNT");
    let reserved = is(Code::FailedPrecondition, "RESERVED");
    assert_eq!(refusal(root.assign(&guest.user_id, "player").await), of_guest);
    assert_eq!(refusal(root.grant(&guest.user_id, "invoices:read").await), of_guest);
    assert_eq!(refusal(root.assign(&ann, "guest").await), reserved);
    assert_eq!(refusal(root.unassign(&guest.user_id, "guest").await), reserved);
    let created = users(&server)
        .create_user(with_token(new_user("bob", &["guest"]), &root.token))
        .await;
    assert_eq!(refusal(created), reserved);
    // The role itself is built in, and administrators decide what it may do.
    let request = proto::auth::v1::DeleteRoleRequest {
        code_name: "guest".to_owned(),
        force: true,
    };
    assert_eq!(refusal(root.delete_role(request).await), reserved);
    root.set("guest", &["invoices:read"]).await.expect("set");
    assert!(
        root.check(&guest.user_id, "invoices:read")
            .await
            .decision
            .expect("it")
            .allowed
    );
    upgrade(&server, &guest.access, upgrade_to("carl"))
        .await
        .expect("upgraded");
    assert!(
        !root
            .check(&guest.user_id, "invoices:read")
            .await
            .decision
            .expect("it")
            .allowed
    );
    root.assign(&guest.user_id, "admin")
        .await
        .expect("a user like any other");
}

#[on_both_backends]
async fn support_staff_can_act_on_guests(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_permissions("games", &["create"]).await;
    root.set("guest", &["games:create"]).await.expect("set");
    root.make_role("support", &["users:update", "users:delete"]).await;
    let staff: Caller = root.service(&server, "staff", &["support"], &[]).await;
    let guest = guest(&server).await;
    let update = |user: User| UpdateUserRequest {
        user_id: guest.user_id.clone(),
        user: Some(user),
        ..UpdateUserRequest::default()
    };
    let login = User {
        login: "ann".to_owned(),
        ..User::default()
    };
    let refused = users(&server)
        .update_user(with_token(update(login), &staff.token))
        .await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    let name = User {
        first_name: "Ann".to_owned(),
        ..User::default()
    };
    users(&server)
        .update_user(with_token(update(name), &staff.token))
        .await
        .expect("changed");
    assert_eq!(
        refusal(set_password(&server, &root.token, &guest.user_id).await),
        is(Code::FailedPrecondition, "GUEST_ACCOUNT")
    );
    deactivate(&server, &root.token, &guest.user_id)
        .await
        .expect("deactivated");
    me(&server, &guest.access).await.expect_err("deactivated");
    delete(&server, &staff.token, &guest.user_id).await.expect("deleted");
    login_guest(&server, &guest.credential).await.expect_err("deleted");
    assert_eq!(count(server.database.db(), "guest_credentials").await, 0);
}
