//! Every RPC that changes something refuses a token that is revoked while the call waits for its
//! turn. The verifier has admitted the call by then, so only the transaction can notice.

use std::collections::BTreeSet;

use access::policy::{Policies, Policy};
use db::query;
use diesel_async::RunQueryDsl as _;
use prost::Message;
use proto::auth::v1::{
    Action, AssignRoleRequest, ConfirmTotpFactorRequest, CreateActionRequest, CreatePermissionRequest,
    CreateResourceRequest, CreateRoleRequest, CreateServiceAccountRequest, CreateTotpFactorRequest,
    DeactivateUserRequest, DeclaredPermission, DeleteActionRequest, DeleteMeRequest, DeletePermissionRequest,
    DeleteResourceRequest, DeleteRoleRequest, DeleteSecondFactorRequest, DeleteServiceAccountRequest,
    DeleteUserRequest, ExportMeRequest, FILE_DESCRIPTOR_SET, GrantPermissionRequest, InviteUserRequest,
    ListUserSessionsRequest, Permission, ReactivateUserRequest, ReauthenticateRequest, RegisterPoliciesRequest,
    RenewRecoveryCodesRequest, ResetSecondFactorsRequest, Resource, RetireSigningKeyRequest, RevokeAllTokensRequest,
    RevokeMySessionRequest, RevokePermissionRequest, RevokeUserSessionRequest, RevokeUserTokensRequest, Role,
    RotateServiceAccountSecretRequest, RotateSigningKeyRequest, SendPasswordResetRequest, SetPasswordRequest,
    SetRolePermissionsRequest, UnassignRoleRequest, UnlockUserRequest, UpdateActionRequest, UpdateMeRequest,
    UpdatePermissionRequest, UpdateResourceRequest, UpdateRoleRequest, UpdateUserRequest, UpgradeAccountRequest, User,
    reauthenticate_request,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{RawConnection, frame, with_token},
};
use tonic::Code;

use crate::{
    support::{
        PASSWORD, Server,
        callers::{Caller, is, names},
        mask, settings, with_password,
    },
    users::calls::{NEW, TEMPORARY, change, me, new_user, users},
};

/// First words of the names of RPCs that only read.
const READS: [&str; 6] = ["Get", "List", "Check", "BatchCheck", "Introspect", "Watch"];

/// A call: its path, its message, and the token of its caller.
struct Call<'a> {
    path: &'static str,
    message: Vec<u8>,
    token: &'a str,
}

/// Makes the tokens of all users stale, and keeps every row locked for which a call may wait. The
/// access feed is bypassed, so that no verifier learns of it.
async fn revoke_all(database: &TestDatabase) -> db::Transaction {
    let mut transaction = database.db().begin().await.expect("a transaction");
    let mut statements = vec!["UPDATE users SET token_version = token_version + 1"];
    if database.backend() == db::Backend::Postgres {
        statements.extend([
            "SELECT id FROM roles FOR UPDATE",
            "SELECT epoch FROM feed_head FOR UPDATE",
        ]);
    }
    for statement in statements {
        let done: db::Result<usize> = query!(transaction.conn(), |c| diesel::sql_query(statement).execute(c).await);
        done.expect("done");
    }
    transaction
}

async fn undo(database: &TestDatabase) {
    let statement = "UPDATE users SET token_version = token_version - 1";
    let done: db::Result<usize> = db::write_tx!(database.db(), |tx| query!(tx, |c| diesel::sql_query(statement)
        .execute(c)
        .await));
    done.expect("done");
}

/// Waits until the call waits for a lock or has ended. On SQLite, nothing shows that a call waits
/// for the writer. There it does not matter: a call begins its transaction after this one anyway.
pub(crate) async fn waits<T>(database: &TestDatabase, call: &tokio::task::JoinHandle<T>) {
    if database.backend() == db::Backend::Sqlite {
        return;
    }
    let mut conn = database.db().read().await.expect("a connection");
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !call.is_finished() {
        let found: db::Result<usize> = query!(&mut conn, |c| diesel::sql_query(waiting).execute(c).await);
        if found.expect("an answer") > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[on_both_backends]
async fn a_token_that_is_revoked_while_the_call_waits_changes_nothing(database: TestDatabase) {
    let folder = tempfile::tempdir().expect("a folder");
    let mail = ["--mail-folder", folder.path().to_str().expect("UTF-8")];
    let server = Server::start_with(database, &settings(&mail)).await;
    let token = server.superuser().await;
    // Some of the calls need two factors.
    let app = crate::factors::App::added(&server, &token).await;
    crate::factors::next_step(&server);
    let proof = crate::factors::reauthentication(&app.code(&server));
    let token = crate::factors::reauthenticate(&server, &token, proof)
        .await
        .expect("proved");
    let root = Caller::with_token(&server, &token, &me(&server, &token).await.expect("me").user_id);
    let ann = server.register("ann").await.user.expect("a user").user_id;
    let guest = crate::guests::guest(&server).await;
    let service = root.service(&server, "courses", &["service"], &[]).await;
    root.make_permissions("invoices", &["approve"]).await;
    root.make_role("clerk", &["users:read"]).await;
    root.assign(&ann, "clerk").await.expect("assigned");
    root.grant(&ann, "users:read").await.expect("granted");
    let sessions = ListUserSessionsRequest {
        user_id: ann.clone(),
        ..ListUserSessionsRequest::default()
    };
    let sessions = users(&server).list_user_sessions(with_token(sessions, &token)).await;
    let session_id = sessions.expect("listed").into_inner().sessions[0].session_id.clone();

    macro_rules! call {
        ($path:literal, $request:expr) => {
            call!($path, $request, &token)
        };
        ($path:literal, $request:expr, $token:expr) => {
            Call {
                path: concat!("/auth.v1.", $path),
                message: $request.encode_to_vec(),
                token: $token,
            }
        };
    }
    let resource = |code_name: &str| Resource {
        code_name: code_name.to_owned(),
        name: "Another".to_owned(),
        ..Resource::default()
    };
    let action = |code_name: &str| Action {
        code_name: code_name.to_owned(),
        name: "Another".to_owned(),
        ..Action::default()
    };
    let permission = |name: &str, description: &str| Permission {
        name: name.to_owned(),
        description: description.to_owned(),
        ..Permission::default()
    };
    let role = |code_name: &str| Role {
        code_name: code_name.to_owned(),
        name: "Another".to_owned(),
        ..Role::default()
    };
    let account = |client_id: &str| CreateServiceAccountRequest {
        client_id: client_id.to_owned(),
        ..CreateServiceAccountRequest::default()
    };
    let renamed = User {
        first_name: "Another".to_owned(),
        ..User::default()
    };
    let calls = [
        call!(
            "RbacService/CreateResource",
            CreateResourceRequest {
                resource: Some(resource("new"))
            }
        ),
        call!(
            "RbacService/UpdateResource",
            UpdateResourceRequest {
                resource: Some(resource("invoices")),
                update_mask: None
            }
        ),
        call!(
            "RbacService/DeleteResource",
            DeleteResourceRequest {
                code_name: "invoices".to_owned(),
                force: true
            }
        ),
        call!(
            "RbacService/CreateAction",
            CreateActionRequest {
                action: Some(action("new"))
            }
        ),
        call!(
            "RbacService/UpdateAction",
            UpdateActionRequest {
                action: Some(action("approve")),
                update_mask: None
            }
        ),
        call!(
            "RbacService/DeleteAction",
            DeleteActionRequest {
                code_name: "approve".to_owned(),
                force: true
            }
        ),
        call!(
            "RbacService/CreatePermission",
            CreatePermissionRequest {
                permission: Some(permission("invoices:read", ""))
            }
        ),
        // The caller does not even learn that the name is taken. The same goes for the other calls
        // below that would fail anyway.
        call!(
            "RbacService/CreatePermission",
            CreatePermissionRequest {
                permission: Some(permission("invoices:approve", ""))
            }
        ),
        call!(
            "RbacService/UpdatePermission",
            UpdatePermissionRequest {
                permission: Some(permission("invoices:approve", "Another")),
                update_mask: None
            }
        ),
        call!(
            "RbacService/UpdatePermission",
            UpdatePermissionRequest {
                permission: Some(permission("invoices:approve", "")),
                update_mask: None
            }
        ),
        call!(
            "RbacService/DeletePermission",
            DeletePermissionRequest {
                name: "invoices:approve".to_owned(),
                force: true
            }
        ),
        call!(
            "RbacService/CreateRole",
            CreateRoleRequest {
                role: Some(role("new"))
            }
        ),
        call!(
            "RbacService/CreateRole",
            CreateRoleRequest {
                role: Some(role("clerk"))
            }
        ),
        call!(
            "RbacService/UpdateRole",
            UpdateRoleRequest {
                role: Some(role("clerk")),
                update_mask: Some(mask(&["name"]))
            }
        ),
        call!(
            "RbacService/UpdateRole",
            UpdateRoleRequest {
                role: Some(role("player")),
                update_mask: Some(mask(&["name"]))
            }
        ),
        call!(
            "RbacService/DeleteRole",
            DeleteRoleRequest {
                code_name: "clerk".to_owned(),
                force: true
            }
        ),
        call!(
            "RbacService/DeleteRole",
            DeleteRoleRequest {
                code_name: "player".to_owned(),
                force: true
            }
        ),
        call!(
            "RbacService/SetRolePermissions",
            SetRolePermissionsRequest {
                role: "clerk".to_owned(),
                permissions: names(&["audit:read"])
            }
        ),
        call!(
            "RbacService/SetRolePermissions",
            SetRolePermissionsRequest {
                role: "clerk".to_owned(),
                permissions: names(&["users:read"])
            }
        ),
        call!(
            "RbacService/SetRolePermissions",
            SetRolePermissionsRequest {
                role: "superuser".to_owned(),
                permissions: names(&[])
            }
        ),
        call!(
            "RbacService/AssignRole",
            AssignRoleRequest {
                user_id: ann.clone(),
                role: "admin".to_owned()
            }
        ),
        call!(
            "RbacService/UnassignRole",
            UnassignRoleRequest {
                user_id: ann.clone(),
                role: "clerk".to_owned()
            }
        ),
        call!(
            "RbacService/GrantPermission",
            GrantPermissionRequest {
                user_id: ann.clone(),
                permission: "audit:read".to_owned()
            }
        ),
        call!(
            "RbacService/RevokePermission",
            RevokePermissionRequest {
                user_id: ann.clone(),
                permission: "users:read".to_owned()
            }
        ),
        call!(
            "RbacService/RegisterPolicies",
            RegisterPoliciesRequest {
                permissions: vec![DeclaredPermission {
                    resource: "courses".to_owned(),
                    action: "read".to_owned(),
                    default_roles: Vec::new(),
                }]
            },
            &service.token
        ),
        call!("UserService/CreateUser", new_user("bob", &[])),
        call!(
            "UserService/UpdateUser",
            UpdateUserRequest {
                user_id: ann.clone(),
                user: Some(renamed.clone()),
                update_mask: None
            }
        ),
        call!(
            "UserService/InviteUser",
            InviteUserRequest {
                email: "eva@example.test".to_owned(),
                login: "eva".to_owned(),
                ..InviteUserRequest::default()
            }
        ),
        call!(
            "UserService/SendPasswordReset",
            SendPasswordResetRequest {
                user_id: ann.clone(),
                invalidate_password: true
            }
        ),
        call!(
            "UserService/SetPassword",
            SetPasswordRequest {
                user_id: ann.clone(),
                password: TEMPORARY.to_owned()
            }
        ),
        call!(
            "UserService/DeactivateUser",
            DeactivateUserRequest { user_id: ann.clone() }
        ),
        call!(
            "UserService/ReactivateUser",
            ReactivateUserRequest { user_id: ann.clone() }
        ),
        call!("UserService/UnlockUser", UnlockUserRequest { user_id: ann.clone() }),
        call!(
            "UserService/RevokeUserSession",
            RevokeUserSessionRequest {
                user_id: ann.clone(),
                session_id: session_id.clone()
            }
        ),
        call!(
            "UserService/RevokeUserTokens",
            RevokeUserTokensRequest { user_id: ann.clone() }
        ),
        call!("UserService/DeleteUser", DeleteUserRequest { user_id: ann.clone() }),
        call!("KeyService/RotateSigningKey", RotateSigningKeyRequest {}),
        call!(
            "KeyService/RetireSigningKey",
            RetireSigningKeyRequest { kid: "none".to_owned() }
        ),
        call!("ServiceAccountService/CreateServiceAccount", account("another")),
        call!("ServiceAccountService/CreateServiceAccount", account("courses")),
        call!(
            "ServiceAccountService/RotateServiceAccountSecret",
            RotateServiceAccountSecretRequest {
                client_id: "courses".to_owned(),
                overlap_seconds: 60
            }
        ),
        call!(
            "ServiceAccountService/DeleteServiceAccount",
            DeleteServiceAccountRequest {
                client_id: "courses".to_owned()
            }
        ),
        call!(
            "AccountService/UpdateMe",
            UpdateMeRequest {
                current_password: String::new(),
                ..with_password(renamed)
            }
        ),
        call!("AccountService/ExportMe", ExportMeRequest::default()),
        call!(
            "AccountService/Reauthenticate",
            ReauthenticateRequest {
                proof: Some(reauthenticate_request::Proof::Password(PASSWORD.to_owned())),
                ..ReauthenticateRequest::default()
            }
        ),
        call!("AccountService/CreateTotpFactor", CreateTotpFactorRequest::default()),
        call!(
            "AccountService/ConfirmTotpFactor",
            ConfirmTotpFactorRequest {
                factor_id: app.factor_id.clone(),
                totp_code: "123456".to_owned()
            }
        ),
        call!("AccountService/RenewRecoveryCodes", RenewRecoveryCodesRequest {}),
        call!(
            "AccountService/DeleteSecondFactor",
            DeleteSecondFactorRequest {
                factor_id: app.factor_id.clone()
            }
        ),
        call!(
            "UserService/ResetSecondFactors",
            ResetSecondFactorsRequest { user_id: ann.clone() }
        ),
        call!("AccountService/ChangePassword", change(PASSWORD, NEW)),
        call!("AccountService/RevokeMySession", RevokeMySessionRequest { session_id }),
        call!("AuthService/RevokeAllTokens", RevokeAllTokensRequest {}),
        call!(
            "AccountService/UpgradeAccount",
            UpgradeAccountRequest {
                login: "another".to_owned(),
                email: "another@example.test".to_owned(),
                password: NEW.to_owned(),
                password_confirmation: NEW.to_owned(),
                ..UpgradeAccountRequest::default()
            },
            &guest.access
        ),
        call!(
            "AccountService/DeleteMe",
            DeleteMeRequest {
                current_password: PASSWORD.to_owned(),
                ..DeleteMeRequest::default()
            }
        ),
    ];

    let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let tried: BTreeSet<&str> = calls.iter().map(|call| call.path).collect();
    let writes = policies.iter().filter(|(path, policy)| {
        let name = path.rsplit('/').next().unwrap_or_default();
        **policy != Policy::Public && !READS.iter().any(|read| name.starts_with(read))
    });
    assert_eq!(tried, writes.map(|(path, _)| path).collect());

    let connection = RawConnection::open(server.grpc).await;
    let mut accepted = Vec::new();
    for call in calls {
        let revocation = revoke_all(&server.database).await;
        let calling = tokio::spawn({
            let connection = connection.clone();
            let value = format!("Bearer {}", call.token);
            async move {
                let headers = [("authorization", value.as_str())];
                let answer = connection.call(call.path, &headers, frame(&call.message)).await;
                answer.expect("an answer").code_and_reason()
            }
        });
        waits(&server.database, &calling).await;
        revocation.commit().await.expect("committed");
        let outcome = calling.await.expect("joined");
        if outcome != is(Code::Unauthenticated, "TOKEN_STALE") {
            accepted.push((call.path, outcome));
        }
        undo(&server.database).await;
    }
    assert_eq!(accepted, []);
}
