//! Callers of a running auth-service: a superuser, and service accounts that hold what a test
//! needs.

use std::{future::Future, time::Duration};

use proto::auth::v1::{
    AssignRoleRequest, AssignRoleResponse, BatchCheckPermissionsRequest, BatchCheckPermissionsResponse,
    CheckPermissionRequest, CheckPermissionResponse, CreateActionRequest, CreateActionResponse,
    CreatePermissionRequest, CreatePermissionResponse, CreateResourceRequest, CreateResourceResponse,
    CreateRoleRequest, CreateRoleResponse, CreateServiceAccountRequest, DeleteActionRequest, DeleteActionResponse,
    DeletePermissionRequest, DeletePermissionResponse, DeleteResourceRequest, DeleteResourceResponse,
    DeleteRoleRequest, DeleteRoleResponse, GetActionRequest, GetActionResponse, GetPermissionRequest,
    GetPermissionResponse, GetResourceRequest, GetResourceResponse, GetRoleRequest, GetRoleResponse,
    GrantPermissionRequest, GrantPermissionResponse, IssueServiceTokenRequest, ListActionsRequest, ListActionsResponse,
    ListPermissionsRequest, ListPermissionsResponse, ListResourcesRequest, ListResourcesResponse, ListRolesRequest,
    ListRolesResponse, ListUserPermissionsRequest, ListUserPermissionsResponse, RegisterPoliciesRequest,
    RegisterPoliciesResponse, RevokePermissionRequest, RevokePermissionResponse, Role, SetRolePermissionsRequest,
    SetRolePermissionsResponse, UnassignRoleRequest, UnassignRoleResponse, UpdateActionRequest, UpdateActionResponse,
    UpdatePermissionRequest, UpdatePermissionResponse, UpdateResourceRequest, UpdateResourceResponse,
    UpdateRoleRequest, UpdateRoleResponse, rbac_service_client::RbacServiceClient,
    service_account_service_client::ServiceAccountServiceClient,
};
use testing::{
    TestDatabase,
    rpc::{channel, reason, with_token},
};
use tonic::{Code, Response, Status, transport::Channel};

use crate::support::{Server, settings};

const ROOT_SECRET: &str = "the secret of a superuser, 32 characters or more";

/// Timeout that only a failing test reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Client of `RbacService` with an access token.
#[derive(Clone)]
pub(crate) struct Caller {
    client: RbacServiceClient<Channel>,
    client_id: String,
    client_secret: String,
    pub(crate) token: String,
    pub(crate) user_id: String,
}

/// Starts a server with the superuser `root`, which is a service account.
pub(crate) async fn server_with_root(database: TestDatabase) -> (Server, Caller) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let accounts = format!(r#"[{{"client_id": "root", "secret": "{ROOT_SECRET}", "roles": ["superuser"]}}]"#);
    std::fs::write(file.path(), accounts).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let server = Server::start_with(database, &settings(&["--service-accounts-file", path])).await;
    let mut root = Caller {
        client: RbacServiceClient::new(channel(server.grpc)),
        client_id: "root".to_owned(),
        client_secret: ROOT_SECRET.to_owned(),
        token: String::new(),
        user_id: String::new(),
    };
    root.sign_in(&server).await;
    let mut accounts = ServiceAccountServiceClient::new(channel(server.grpc));
    let request = proto::auth::v1::GetServiceAccountRequest {
        client_id: "root".to_owned(),
    };
    let account = accounts.get_service_account(with_token(request, &root.token)).await;
    root.user_id = account
        .expect("an account")
        .into_inner()
        .service_account
        .expect("it")
        .user_id;
    (server, root)
}

/// Calls `ask` every 50 ms until it returns a value, and returns that value. Fails after
/// [`PATIENCE`]. Use it for changes that no event announces.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("it never became so")
}

/// Returns the code and reason of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("refused");
    (status.code(), reason(&status))
}

/// Returns a code and reason to compare with the result of [`refusal`].
pub(crate) fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

impl Caller {
    /// Returns a client of this server that already has a token.
    pub(crate) fn with_token(server: &Server, token: &str, user_id: &str) -> Self {
        Self {
            client: RbacServiceClient::new(channel(server.grpc)),
            client_id: String::new(),
            client_secret: String::new(),
            token: token.to_owned(),
            user_id: user_id.to_owned(),
        }
    }

    /// Creates a service account with exactly these roles and permissions, and signs it in. The
    /// caller must be a superuser.
    pub(crate) async fn service(&self, server: &Server, client_id: &str, roles: &[&str], permissions: &[&str]) -> Self {
        let request = CreateServiceAccountRequest {
            client_id: client_id.to_owned(),
            roles: names(roles),
            permissions: names(permissions),
            ..CreateServiceAccountRequest::default()
        };
        let mut accounts = ServiceAccountServiceClient::new(channel(server.grpc));
        let made = accounts.create_service_account(with_token(request, &self.token)).await;
        let made = made.expect("made").into_inner();
        let user_id = made.service_account.expect("it").user_id;
        if roles.is_empty() {
            // An account that is created without roles gets the role `service`.
            let unassign = UnassignRoleRequest {
                user_id: user_id.clone(),
                role: "service".to_owned(),
            };
            assert_eq!(
                self.unassign_role(unassign).await.expect("taken").roles,
                Vec::<String>::new()
            );
        }
        let mut caller = Self {
            client: self.client.clone(),
            client_id: client_id.to_owned(),
            client_secret: made.client_secret,
            token: String::new(),
            user_id,
        };
        caller.sign_in(server).await;
        caller
    }

    /// Gets a new token, which reflects the roles and permissions that the caller holds now.
    pub(crate) async fn sign_in(&mut self, server: &Server) {
        let request = IssueServiceTokenRequest {
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
            ..IssueServiceTokenRequest::default()
        };
        let issued = server.auth().issue_service_token(request).await;
        self.token = issued.expect("a token").into_inner().access_token;
    }

    /// Creates a role with these permissions.
    pub(crate) async fn make_role(&self, code_name: &str, permissions: &[&str]) -> Role {
        let role = Role {
            code_name: code_name.to_owned(),
            permissions: names(permissions),
            ..Role::default()
        };
        let made = self.create_role(CreateRoleRequest { role: Some(role) }).await;
        made.expect("a role").role.expect("it")
    }

    /// Creates a resource with a permission for each of these actions. Creates the actions that do
    /// not exist yet.
    pub(crate) async fn make_permissions(&self, resource: &str, actions: &[&str]) {
        use proto::auth::v1::{Action, Permission, Resource};
        let made = Resource {
            code_name: resource.to_owned(),
            ..Resource::default()
        };
        let made = CreateResourceRequest { resource: Some(made) };
        self.create_resource(made).await.expect("a resource");
        for action in actions {
            let made = Action {
                code_name: (*action).to_owned(),
                ..Action::default()
            };
            // The action may exist already.
            let _ = self.create_action(CreateActionRequest { action: Some(made) }).await;
            let made = Permission {
                name: format!("{resource}:{action}"),
                ..Permission::default()
            };
            let made = CreatePermissionRequest { permission: Some(made) };
            self.create_permission(made).await.expect("a permission");
        }
    }

    pub(crate) async fn permissions_of(&self, role: &str) -> Vec<String> {
        let request = GetRoleRequest {
            code_name: role.to_owned(),
        };
        self.get_role(request)
            .await
            .expect("a role")
            .role
            .expect("it")
            .permissions
    }

    pub(crate) async fn set(&self, role: &str, permissions: &[&str]) -> Result<Role, Status> {
        let request = SetRolePermissionsRequest {
            role: role.to_owned(),
            permissions: names(permissions),
        };
        Ok(self.set_role_permissions(request).await?.role.expect("it"))
    }

    pub(crate) async fn assign(&self, user_id: &str, role: &str) -> Result<Vec<String>, Status> {
        let (user_id, role) = (user_id.to_owned(), role.to_owned());
        Ok(self.assign_role(AssignRoleRequest { user_id, role }).await?.roles)
    }

    pub(crate) async fn unassign(&self, user_id: &str, role: &str) -> Result<Vec<String>, Status> {
        let (user_id, role) = (user_id.to_owned(), role.to_owned());
        Ok(self.unassign_role(UnassignRoleRequest { user_id, role }).await?.roles)
    }

    pub(crate) async fn grant(&self, user_id: &str, permission: &str) -> Result<Vec<String>, Status> {
        let (user_id, permission) = (user_id.to_owned(), permission.to_owned());
        let answer = self
            .grant_permission(GrantPermissionRequest { user_id, permission })
            .await?;
        Ok(answer.permissions)
    }

    pub(crate) async fn revoke(&self, user_id: &str, permission: &str) -> Result<Vec<String>, Status> {
        let (user_id, permission) = (user_id.to_owned(), permission.to_owned());
        let answer = self
            .revoke_permission(RevokePermissionRequest { user_id, permission })
            .await?;
        Ok(answer.permissions)
    }

    pub(crate) async fn check(&self, user_id: &str, permission: &str) -> CheckPermissionResponse {
        let (user_id, permission) = (user_id.to_owned(), permission.to_owned());
        let request = CheckPermissionRequest { user_id, permission };
        self.check_permission(request).await.expect("an answer")
    }
}

/// Converts names to owned strings.
pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

macro_rules! calls {
    ($($rpc:ident($request:ident) -> $response:ident;)+) => {
        impl Caller {
            $(pub(crate) async fn $rpc(&self, request: $request) -> Result<$response, Status> {
                let mut client = self.client.clone();
                client.$rpc(with_token(request, &self.token)).await.map(Response::into_inner)
            })+
        }
    };
}

calls! {
    create_resource(CreateResourceRequest) -> CreateResourceResponse;
    get_resource(GetResourceRequest) -> GetResourceResponse;
    list_resources(ListResourcesRequest) -> ListResourcesResponse;
    update_resource(UpdateResourceRequest) -> UpdateResourceResponse;
    delete_resource(DeleteResourceRequest) -> DeleteResourceResponse;
    create_action(CreateActionRequest) -> CreateActionResponse;
    get_action(GetActionRequest) -> GetActionResponse;
    list_actions(ListActionsRequest) -> ListActionsResponse;
    update_action(UpdateActionRequest) -> UpdateActionResponse;
    delete_action(DeleteActionRequest) -> DeleteActionResponse;
    create_permission(CreatePermissionRequest) -> CreatePermissionResponse;
    get_permission(GetPermissionRequest) -> GetPermissionResponse;
    list_permissions(ListPermissionsRequest) -> ListPermissionsResponse;
    update_permission(UpdatePermissionRequest) -> UpdatePermissionResponse;
    delete_permission(DeletePermissionRequest) -> DeletePermissionResponse;
    create_role(CreateRoleRequest) -> CreateRoleResponse;
    get_role(GetRoleRequest) -> GetRoleResponse;
    list_roles(ListRolesRequest) -> ListRolesResponse;
    update_role(UpdateRoleRequest) -> UpdateRoleResponse;
    delete_role(DeleteRoleRequest) -> DeleteRoleResponse;
    set_role_permissions(SetRolePermissionsRequest) -> SetRolePermissionsResponse;
    assign_role(AssignRoleRequest) -> AssignRoleResponse;
    unassign_role(UnassignRoleRequest) -> UnassignRoleResponse;
    grant_permission(GrantPermissionRequest) -> GrantPermissionResponse;
    revoke_permission(RevokePermissionRequest) -> RevokePermissionResponse;
    list_user_permissions(ListUserPermissionsRequest) -> ListUserPermissionsResponse;
    check_permission(CheckPermissionRequest) -> CheckPermissionResponse;
    batch_check_permissions(BatchCheckPermissionsRequest) -> BatchCheckPermissionsResponse;
    register_policies(RegisterPoliciesRequest) -> RegisterPoliciesResponse;
}
