//! `auth.v1.RbacService`.

use ::proto::auth::v1::{self as proto, rbac_service_server::RbacService};
use base::{ids::UserKind, page::PageRequest, validate::Fields};
use tonic::{Request, Response, Status};

use super::{
    fields,
    rbac_messages::decision_message,
    rbac_requests::{
        change, checks, code_name, declared, distinct, names, names_in, new_permission, page, permission_grant,
        permission_name, permissions_of_role, role_grant, user_and_permission,
    },
    request_context::request_context,
};
use crate::{
    domain::{PermissionSources, Rbac},
    model::{Action, Permission, Resource},
};

/// Serves `auth.v1.RbacService`.
#[derive(Clone, Debug)]
pub(crate) struct RbacRpc {
    pub(crate) rbac: Rbac,
}

#[tonic::async_trait]
impl RbacService for RbacRpc {
    async fn create_resource(
        &self,
        request: Request<proto::CreateResourceRequest>,
    ) -> Result<Response<proto::CreateResourceResponse>, Status> {
        let context = request_context(&request);
        let names = names(request.into_inner().resource)?;
        let resource: Resource = self.rbac.create(&context, names).await?;
        Ok(Response::new(proto::CreateResourceResponse {
            resource: Some(resource.into()),
        }))
    }

    async fn get_resource(
        &self,
        request: Request<proto::GetResourceRequest>,
    ) -> Result<Response<proto::GetResourceResponse>, Status> {
        let code_name = code_name(&request.into_inner().code_name)?;
        let resource: Resource = self.rbac.get(&code_name).await?;
        Ok(Response::new(proto::GetResourceResponse {
            resource: Some(resource.into()),
        }))
    }

    async fn list_resources(
        &self,
        request: Request<proto::ListResourcesRequest>,
    ) -> Result<Response<proto::ListResourcesResponse>, Status> {
        const LIST: &str = "ListResources";
        let request = request.into_inner();
        let page = page(request.page_size, &request.page_token, LIST)?;
        let (resources, next_page_token) = self.rbac.list::<Resource>(&page, LIST).await?;
        Ok(Response::new(proto::ListResourcesResponse {
            resources: resources.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_resource(
        &self,
        request: Request<proto::UpdateResourceRequest>,
    ) -> Result<Response<proto::UpdateResourceResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (code_name, change) = change(request.resource, request.update_mask.as_ref())?;
        let resource: Resource = self.rbac.update(&context, &code_name, &change).await?;
        Ok(Response::new(proto::UpdateResourceResponse {
            resource: Some(resource.into()),
        }))
    }

    async fn delete_resource(
        &self,
        request: Request<proto::DeleteResourceRequest>,
    ) -> Result<Response<proto::DeleteResourceResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let code_name = code_name(&request.code_name)?;
        self.rbac
            .delete::<Resource>(&context, &code_name, request.force)
            .await?;
        Ok(Response::new(proto::DeleteResourceResponse {}))
    }

    async fn create_action(
        &self,
        request: Request<proto::CreateActionRequest>,
    ) -> Result<Response<proto::CreateActionResponse>, Status> {
        let context = request_context(&request);
        let names = names(request.into_inner().action)?;
        let action: Action = self.rbac.create(&context, names).await?;
        Ok(Response::new(proto::CreateActionResponse {
            action: Some(action.into()),
        }))
    }

    async fn get_action(
        &self,
        request: Request<proto::GetActionRequest>,
    ) -> Result<Response<proto::GetActionResponse>, Status> {
        let code_name = code_name(&request.into_inner().code_name)?;
        let action: Action = self.rbac.get(&code_name).await?;
        Ok(Response::new(proto::GetActionResponse {
            action: Some(action.into()),
        }))
    }

    async fn list_actions(
        &self,
        request: Request<proto::ListActionsRequest>,
    ) -> Result<Response<proto::ListActionsResponse>, Status> {
        const LIST: &str = "ListActions";
        let request = request.into_inner();
        let page = page(request.page_size, &request.page_token, LIST)?;
        let (actions, next_page_token) = self.rbac.list::<Action>(&page, LIST).await?;
        Ok(Response::new(proto::ListActionsResponse {
            actions: actions.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_action(
        &self,
        request: Request<proto::UpdateActionRequest>,
    ) -> Result<Response<proto::UpdateActionResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (code_name, change) = change(request.action, request.update_mask.as_ref())?;
        let action: Action = self.rbac.update(&context, &code_name, &change).await?;
        Ok(Response::new(proto::UpdateActionResponse {
            action: Some(action.into()),
        }))
    }

    async fn delete_action(
        &self,
        request: Request<proto::DeleteActionRequest>,
    ) -> Result<Response<proto::DeleteActionResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let code_name = code_name(&request.code_name)?;
        self.rbac.delete::<Action>(&context, &code_name, request.force).await?;
        Ok(Response::new(proto::DeleteActionResponse {}))
    }

    async fn create_permission(
        &self,
        request: Request<proto::CreatePermissionRequest>,
    ) -> Result<Response<proto::CreatePermissionResponse>, Status> {
        let context = request_context(&request);
        let (name, description) = new_permission(request.into_inner())?;
        let permission = self.rbac.create_permission(&context, &name, description).await?;
        Ok(Response::new(proto::CreatePermissionResponse {
            permission: Some(permission.into()),
        }))
    }

    async fn get_permission(
        &self,
        request: Request<proto::GetPermissionRequest>,
    ) -> Result<Response<proto::GetPermissionResponse>, Status> {
        let name = permission_name("name", &request.into_inner().name)?;
        let permission = self.rbac.permission(&name).await?;
        Ok(Response::new(proto::GetPermissionResponse {
            permission: Some(permission.into()),
        }))
    }

    async fn list_permissions(
        &self,
        request: Request<proto::ListPermissionsRequest>,
    ) -> Result<Response<proto::ListPermissionsResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let resource = if request.resource.is_empty() {
            None
        } else {
            fields::code_name(&mut fields, "resource", &request.resource)
        };
        let list = format!("ListPermissions {}", resource.as_deref().unwrap_or_default());
        let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, &list);
        let page = fields.finish(|| page)?;
        let (permissions, next_page_token) = self.rbac.permissions(&page, &list, resource.as_deref()).await?;
        Ok(Response::new(proto::ListPermissionsResponse {
            permissions: permissions.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_permission(
        &self,
        request: Request<proto::UpdatePermissionRequest>,
    ) -> Result<Response<proto::UpdatePermissionResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let permission = request.permission.unwrap_or_default();
        let mut fields = Fields::new();
        let name = fields::permission_name(&mut fields, "permission.name", &permission.name);
        let changeable = [("description", !permission.description.is_empty())];
        let changing = fields::update_mask(&mut fields, request.update_mask.as_ref(), &changeable);
        let description = fields::description(&mut fields, "permission.description", &permission.description);
        let (name, description) = fields.finish(|| Some((name?, description?)))?;
        let description = changing.contains(&"description").then_some(description.as_str());
        let permission = self.rbac.update_permission(&context, &name, description).await?;
        Ok(Response::new(proto::UpdatePermissionResponse {
            permission: Some(permission.into()),
        }))
    }

    async fn delete_permission(
        &self,
        request: Request<proto::DeletePermissionRequest>,
    ) -> Result<Response<proto::DeletePermissionResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let name = permission_name("name", &request.name)?.to_string();
        self.rbac.delete::<Permission>(&context, &name, request.force).await?;
        Ok(Response::new(proto::DeletePermissionResponse {}))
    }

    async fn create_role(
        &self,
        request: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::CreateRoleResponse>, Status> {
        let context = request_context(&request);
        let role = request.into_inner().role.unwrap_or_default();
        let mut bad = Fields::new();
        let names = names_in(&mut bad, &role);
        permissions_of_role(&mut bad, "role.permissions", &role.permissions);
        let names = bad.finish(|| names)?;
        let role = self
            .rbac
            .create_role(&context, names, distinct(role.permissions))
            .await?;
        Ok(Response::new(proto::CreateRoleResponse {
            role: Some(role.into()),
        }))
    }

    async fn get_role(
        &self,
        request: Request<proto::GetRoleRequest>,
    ) -> Result<Response<proto::GetRoleResponse>, Status> {
        let code_name = code_name(&request.into_inner().code_name)?;
        let role = self.rbac.role(&code_name).await?;
        Ok(Response::new(proto::GetRoleResponse {
            role: Some(role.into()),
        }))
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        const LIST: &str = "ListRoles";
        let request = request.into_inner();
        let page = page(request.page_size, &request.page_token, LIST)?;
        let (roles, next_page_token) = self.rbac.roles(&page, LIST).await?;
        Ok(Response::new(proto::ListRolesResponse {
            roles: roles.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_role(
        &self,
        request: Request<proto::UpdateRoleRequest>,
    ) -> Result<Response<proto::UpdateRoleResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (code_name, change) = change(request.role, request.update_mask.as_ref())?;
        let role = self.rbac.update_role(&context, &code_name, &change).await?;
        Ok(Response::new(proto::UpdateRoleResponse {
            role: Some(role.into()),
        }))
    }

    async fn delete_role(
        &self,
        request: Request<proto::DeleteRoleRequest>,
    ) -> Result<Response<proto::DeleteRoleResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let code_name = code_name(&request.code_name)?;
        self.rbac.delete_role(&context, &code_name, request.force).await?;
        Ok(Response::new(proto::DeleteRoleResponse {}))
    }

    async fn set_role_permissions(
        &self,
        request: Request<proto::SetRolePermissionsRequest>,
    ) -> Result<Response<proto::SetRolePermissionsResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let mut bad = Fields::new();
        let role = fields::code_name(&mut bad, "role", &request.role);
        permissions_of_role(&mut bad, "permissions", &request.permissions);
        let role = bad.finish(|| role)?;
        let role = self
            .rbac
            .set_role_permissions(&context, &role, distinct(request.permissions))
            .await?;
        Ok(Response::new(proto::SetRolePermissionsResponse {
            role: Some(role.into()),
        }))
    }

    async fn assign_role(
        &self,
        request: Request<proto::AssignRoleRequest>,
    ) -> Result<Response<proto::AssignRoleResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (user_id, grant) = role_grant(&request.user_id, &request.role)?;
        let roles = self.rbac.give(&context, user_id, &grant).await?;
        Ok(Response::new(proto::AssignRoleResponse { roles }))
    }

    async fn unassign_role(
        &self,
        request: Request<proto::UnassignRoleRequest>,
    ) -> Result<Response<proto::UnassignRoleResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (user_id, grant) = role_grant(&request.user_id, &request.role)?;
        let roles = self.rbac.take(&context, user_id, &grant).await?;
        Ok(Response::new(proto::UnassignRoleResponse { roles }))
    }

    async fn grant_permission(
        &self,
        request: Request<proto::GrantPermissionRequest>,
    ) -> Result<Response<proto::GrantPermissionResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (user_id, grant) = permission_grant(&request.user_id, &request.permission)?;
        let permissions = self.rbac.give(&context, user_id, &grant).await?;
        Ok(Response::new(proto::GrantPermissionResponse { permissions }))
    }

    async fn revoke_permission(
        &self,
        request: Request<proto::RevokePermissionRequest>,
    ) -> Result<Response<proto::RevokePermissionResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let (user_id, grant) = permission_grant(&request.user_id, &request.permission)?;
        let permissions = self.rbac.take(&context, user_id, &grant).await?;
        Ok(Response::new(proto::RevokePermissionResponse { permissions }))
    }

    async fn list_user_permissions(
        &self,
        request: Request<proto::ListUserPermissionsRequest>,
    ) -> Result<Response<proto::ListUserPermissionsResponse>, Status> {
        let mut bad = Fields::new();
        let user_id = bad.id::<UserKind>("user_id", &request.into_inner().user_id);
        let user_id = bad.finish(|| user_id)?;
        let (roles, sources) = self.rbac.user_permissions(user_id).await?;
        let permissions =
            sources.into_iter().map(
                |(permission, PermissionSources { roles, is_direct })| proto::HeldPermission {
                    permission,
                    roles,
                    is_direct,
                },
            );
        Ok(Response::new(proto::ListUserPermissionsResponse {
            roles,
            permissions: permissions.collect(),
        }))
    }

    async fn check_permission(
        &self,
        request: Request<proto::CheckPermissionRequest>,
    ) -> Result<Response<proto::CheckPermissionResponse>, Status> {
        let request = request.into_inner();
        let check = user_and_permission(&request.user_id, &request.permission)?;
        let checked = self.rbac.check(std::slice::from_ref(&check)).await?;
        let decision = checked.decisions.into_iter().next();
        Ok(Response::new(proto::CheckPermissionResponse {
            decision: decision.map(|decision| decision_message(&decision, &check.1)),
            epoch: checked.head.epoch.to_string(),
            sequence: checked.head.sequence,
        }))
    }

    async fn batch_check_permissions(
        &self,
        request: Request<proto::BatchCheckPermissionsRequest>,
    ) -> Result<Response<proto::BatchCheckPermissionsResponse>, Status> {
        let checks = checks(&request.into_inner().checks)?;
        let checked = self.rbac.check(&checks).await?;
        let decisions = checked.decisions.iter().zip(&checks);
        Ok(Response::new(proto::BatchCheckPermissionsResponse {
            decisions: decisions
                .map(|(decision, (_, permission))| decision_message(decision, permission))
                .collect(),
            epoch: checked.head.epoch.to_string(),
            sequence: checked.head.sequence,
        }))
    }

    async fn register_policies(
        &self,
        request: Request<proto::RegisterPoliciesRequest>,
    ) -> Result<Response<proto::RegisterPoliciesResponse>, Status> {
        let context = request_context(&request);
        let declared = declared(request.into_inner().permissions)?;
        let created_permissions = self.rbac.register_policies(&context, &declared).await?;
        Ok(Response::new(proto::RegisterPoliciesResponse { created_permissions }))
    }
}
