//! `auth.v1.AccountService`.

use shared::{
    authz,
    proto::auth::v1::{self as proto, GetMeRequest, GetMeResponse, account_service_server::AccountService},
};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::Accounts;

/// Serves `auth.v1.AccountService`.
#[derive(Clone, Debug)]
pub(crate) struct AccountRpc {
    pub(crate) accounts: Accounts,
}

#[tonic::async_trait]
impl AccountService for AccountRpc {
    async fn get_me(&self, request: Request<GetMeRequest>) -> Result<Response<GetMeResponse>, Status> {
        let principal = authz::principal(&request)?;
        let profile = self.accounts.profile(principal.user_id()).await?;
        Ok(Response::new(GetMeResponse {
            user: Some(convert::user(profile.user)),
            roles: profile.roles,
            is_admin: profile.is_admin,
            permissions: profile.permissions,
        }))
    }

    async fn update_me(&self, _: Request<proto::UpdateMeRequest>) -> Result<Response<proto::UpdateMeResponse>, Status> {
        Err(Status::unimplemented("update_me"))
    }

    async fn change_password(
        &self,
        _: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        Err(Status::unimplemented("change_password"))
    }

    async fn delete_me(&self, _: Request<proto::DeleteMeRequest>) -> Result<Response<proto::DeleteMeResponse>, Status> {
        Err(Status::unimplemented("delete_me"))
    }

    async fn list_my_sessions(
        &self,
        _: Request<proto::ListMySessionsRequest>,
    ) -> Result<Response<proto::ListMySessionsResponse>, Status> {
        Err(Status::unimplemented("list_my_sessions"))
    }

    async fn revoke_my_session(
        &self,
        _: Request<proto::RevokeMySessionRequest>,
    ) -> Result<Response<proto::RevokeMySessionResponse>, Status> {
        Err(Status::unimplemented("revoke_my_session"))
    }

    async fn get_client_address(
        &self,
        _: Request<proto::GetClientAddressRequest>,
    ) -> Result<Response<proto::GetClientAddressResponse>, Status> {
        Err(Status::unimplemented("get_client_address"))
    }
}
