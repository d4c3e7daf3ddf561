//! `auth.v1.AccountService`.

use shared::{
    authz,
    proto::auth::v1::{GetMeRequest, GetMeResponse, account_service_server::AccountService},
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
        }))
    }
}
