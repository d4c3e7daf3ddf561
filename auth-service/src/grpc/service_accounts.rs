//! `auth.v1.ServiceAccountService`.

use std::time::Duration;

use base::{
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use proto::auth::v1::{
    CreateServiceAccountRequest, CreateServiceAccountResponse, DeleteServiceAccountRequest,
    DeleteServiceAccountResponse, GetServiceAccountRequest, GetServiceAccountResponse, ListServiceAccountsRequest,
    ListServiceAccountsResponse, RotateServiceAccountSecretRequest, RotateServiceAccountSecretResponse, ServiceAccount,
    service_account_service_server::ServiceAccountService,
};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};

use super::{fields, request_context::request_context};
use crate::domain::{AccountWithHoldings, ClientId, NewServiceAccount, ServiceAccounts};

/// Query that page tokens of the list are bound to.
const LIST: &str = "ListServiceAccounts";
/// Maximum number of roles of a new account.
const MAX_ROLES: usize = 50;
/// Maximum number of direct grants of a new account.
const MAX_PERMISSIONS: usize = 100;
const MAX_OVERLAP_SECONDS: i32 = 604_800;

/// Serves `auth.v1.ServiceAccountService`.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAccountRpc {
    pub(crate) accounts: ServiceAccounts,
}

#[tonic::async_trait]
impl ServiceAccountService for ServiceAccountRpc {
    async fn create_service_account(
        &self,
        request: Request<CreateServiceAccountRequest>,
    ) -> Result<Response<CreateServiceAccountResponse>, Status> {
        let context = request_context(&request);
        let new = new_account(request.into_inner())?;
        let (account, secret) = self.accounts.create(&context, new).await?;
        Ok(Response::new(CreateServiceAccountResponse {
            service_account: Some(message(account)),
            client_secret: exposed(&secret),
        }))
    }

    async fn get_service_account(
        &self,
        request: Request<GetServiceAccountRequest>,
    ) -> Result<Response<GetServiceAccountResponse>, Status> {
        let client_id = client_id(&request.into_inner().client_id)?;
        let account = self.accounts.get(client_id.as_str()).await?;
        Ok(Response::new(GetServiceAccountResponse {
            service_account: Some(message(account)),
        }))
    }

    async fn list_service_accounts(
        &self,
        request: Request<ListServiceAccountsRequest>,
    ) -> Result<Response<ListServiceAccountsResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::new();
        let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, LIST);
        let page = fields.finish(|| page)?;
        let (accounts, next_page_token) = self.accounts.list(&page, LIST).await?;
        Ok(Response::new(ListServiceAccountsResponse {
            service_accounts: accounts.into_iter().map(message).collect(),
            next_page_token,
        }))
    }

    async fn rotate_service_account_secret(
        &self,
        request: Request<RotateServiceAccountSecretRequest>,
    ) -> Result<Response<RotateServiceAccountSecretResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        let client_id = parse_client_id(&mut fields, &request.client_id);
        let overlap = if (0..=MAX_OVERLAP_SECONDS).contains(&request.overlap_seconds) {
            u64::try_from(request.overlap_seconds).ok().map(Duration::from_secs)
        } else {
            fields.reject("overlap_seconds", "must be 0 to 604800");
            None
        };
        let (client_id, overlap) = fields.finish(|| Some((client_id?, overlap?)))?;
        let (account, secret) = self
            .accounts
            .rotate_secret(&context, client_id.as_str(), overlap)
            .await?;
        Ok(Response::new(RotateServiceAccountSecretResponse {
            service_account: Some(message(account)),
            client_secret: exposed(&secret),
        }))
    }

    async fn delete_service_account(
        &self,
        request: Request<DeleteServiceAccountRequest>,
    ) -> Result<Response<DeleteServiceAccountResponse>, Status> {
        let context = request_context(&request);
        let client_id = client_id(&request.into_inner().client_id)?;
        self.accounts.delete(&context, client_id.as_str()).await?;
        Ok(Response::new(DeleteServiceAccountResponse {}))
    }
}

fn new_account(request: CreateServiceAccountRequest) -> Result<NewServiceAccount, InvalidFields> {
    let mut fields = Fields::new();
    let client_id = parse_client_id(&mut fields, &request.client_id);
    let description = fields::description(&mut fields, "description", &request.description);
    fields::code_names(&mut fields, "roles", &request.roles);
    fields::permission_names(&mut fields, "permissions", &request.permissions);
    let roles = fields::distinct(&mut fields, "roles", request.roles, MAX_ROLES);
    let permissions = fields::distinct(&mut fields, "permissions", request.permissions, MAX_PERMISSIONS);
    fields.finish(|| {
        Some(NewServiceAccount {
            client_id: client_id?,
            description: description?,
            roles: if roles.is_empty() {
                NewServiceAccount::default_roles()
            } else {
                roles
            },
            permissions,
        })
    })
}

fn parse_client_id(fields: &mut Fields, text: &str) -> Option<ClientId> {
    if text.is_empty() {
        fields.reject("client_id", "is required");
        return None;
    }
    fields.check("client_id", text.parse())
}

fn client_id(text: &str) -> Result<ClientId, InvalidFields> {
    let mut fields = Fields::new();
    let client_id = parse_client_id(&mut fields, text);
    fields.finish(|| client_id)
}

fn message(described: AccountWithHoldings) -> ServiceAccount {
    let account = described.account;
    ServiceAccount {
        client_id: account.client_id,
        user_id: account.user_id.to_string(),
        description: account.description,
        roles: described.roles,
        permissions: described.permissions,
        create_time: Some(account.create_time.into()),
        secret_time: Some(account.secret_time.into()),
        last_token_time: account.last_token_time.map(Into::into),
    }
}

fn exposed(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}
