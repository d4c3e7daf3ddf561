//! `auth.v1.AccountService`.

use ::proto::auth::v1::{
    self as proto, ChangePasswordRequest, ChangePasswordResponse, DeleteMeRequest, DeleteMeResponse, GetMeRequest,
    GetMeResponse, UpdateMeRequest, UpdateMeResponse, UpgradeAccountRequest, UpgradeAccountResponse,
    account_service_server::AccountService,
};
use access::authz;
use base::validate::{Fields, InvalidFields};
use ipnet::IpNet;
use server::ClientAddress;
use tonic::{Request, Response, Status};

use super::{
    convert, emails, export, factors, guests, passwords, profile, reauthentication, request_context::request_context,
    sessions, transport::Transports,
};
use crate::{
    domain::{Accounts, Password, PasswordChange, PasswordRules},
    model::ReservedRole,
};

/// Serves `auth.v1.AccountService`.
#[derive(Clone, Debug)]
pub(crate) struct AccountRpc {
    pub(crate) accounts: Accounts,
    pub(crate) transports: Transports,
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

    async fn update_me(&self, request: Request<UpdateMeRequest>) -> Result<Response<UpdateMeResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        let password = match request.current_password.as_str() {
            "" => None,
            given => fields.check("current_password", Password::presented(given)),
        };
        let changes = profile::changes(fields, request.user.as_ref(), request.update_mask.as_ref());
        let changes = changes?;
        let user = self.accounts.update_me(&context, changes, password).await?;
        Ok(Response::new(UpdateMeResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let context = request_context(&request);
        let transport = self.transports.of(&request)?;
        let change = password_change(&request.into_inner(), self.accounts.password_rules)?;
        let tokens = self.accounts.change_password(&context, change).await?;
        Ok(
            transport.deliver(convert::token_pair(&tokens), |tokens| ChangePasswordResponse {
                tokens: Some(tokens),
            }),
        )
    }

    async fn reauthenticate(
        &self,
        request: Request<proto::ReauthenticateRequest>,
    ) -> Result<Response<proto::ReauthenticateResponse>, Status> {
        reauthentication::reauthenticate(&self.accounts, request).await
    }

    async fn request_email_verification(
        &self,
        request: Request<proto::RequestEmailVerificationRequest>,
    ) -> Result<Response<proto::RequestEmailVerificationResponse>, Status> {
        emails::request_verification(&self.accounts, request).await
    }

    async fn verify_email(
        &self,
        request: Request<proto::VerifyEmailRequest>,
    ) -> Result<Response<proto::VerifyEmailResponse>, Status> {
        emails::verify(&self.accounts, request).await
    }

    async fn change_email(
        &self,
        request: Request<proto::ChangeEmailRequest>,
    ) -> Result<Response<proto::ChangeEmailResponse>, Status> {
        emails::change(&self.accounts, request).await
    }

    async fn confirm_email_change(
        &self,
        request: Request<proto::ConfirmEmailChangeRequest>,
    ) -> Result<Response<proto::ConfirmEmailChangeResponse>, Status> {
        emails::confirm_change(&self.accounts, request).await
    }

    async fn revert_email_change(
        &self,
        request: Request<proto::RevertEmailChangeRequest>,
    ) -> Result<Response<proto::RevertEmailChangeResponse>, Status> {
        emails::revert_change(&self.accounts, request).await
    }

    async fn upgrade_account(
        &self,
        request: Request<UpgradeAccountRequest>,
    ) -> Result<Response<UpgradeAccountResponse>, Status> {
        let context = request_context(&request);
        let transport = self.transports.of(&request)?;
        let upgrade = guests::upgrade(&request.into_inner(), self.accounts.password_rules)?;
        let (user, tokens) = self.accounts.upgrade(&context, upgrade).await?;
        let user = Some(convert::user(user));
        let Some(tokens) = tokens else {
            return Ok(transport.clear(UpgradeAccountResponse { user, tokens: None }));
        };
        Ok(
            transport.deliver(convert::token_pair(&tokens), |tokens| UpgradeAccountResponse {
                user,
                tokens: Some(tokens),
            }),
        )
    }

    async fn delete_me(&self, request: Request<DeleteMeRequest>) -> Result<Response<DeleteMeResponse>, Status> {
        let context = request_context(&request);
        let transport = self.transports.of(&request)?;
        let is_guest = authz::principal(&request)?.has_role(ReservedRole::Guest.code_name());
        let request = request.into_inner();
        if is_guest && request.guest_credential.is_empty() && request.current_password.is_empty() {
            let why = "is required: a guest has no password to confirm the deletion with";
            return Err(InvalidFields::one("guest_credential", why).into());
        }
        let mut fields = Fields::new();
        if request.guest_credential.is_empty() {
            let password = fields.check("current_password", Password::presented(&request.current_password));
            let password = fields.finish(|| password)?;
            self.accounts.delete_me(&context, password).await?;
        } else {
            guests::credential(&mut fields, &request.guest_credential);
            if !request.current_password.is_empty() {
                fields.reject("current_password", "must be empty with a guest_credential");
            }
            fields.finish(|| Some(()))?;
            let deleted = self.accounts.delete_me_as_guest(&context, &request.guest_credential);
            deleted.await?;
        }
        Ok(transport.clear(DeleteMeResponse {}))
    }

    async fn export_me(
        &self,
        request: Request<proto::ExportMeRequest>,
    ) -> Result<Response<proto::ExportMeResponse>, Status> {
        export::export_me(&self.accounts, request).await
    }

    async fn list_my_sessions(
        &self,
        request: Request<proto::ListMySessionsRequest>,
    ) -> Result<Response<proto::ListMySessionsResponse>, Status> {
        sessions::list_my_sessions(&self.accounts.sessions, request).await
    }

    async fn revoke_my_session(
        &self,
        request: Request<proto::RevokeMySessionRequest>,
    ) -> Result<Response<proto::RevokeMySessionResponse>, Status> {
        sessions::revoke_my_session(&self.accounts.sessions, request).await
    }

    async fn create_totp_factor(
        &self,
        request: Request<proto::CreateTotpFactorRequest>,
    ) -> Result<Response<proto::CreateTotpFactorResponse>, Status> {
        factors::create(&self.accounts, request).await
    }

    async fn confirm_totp_factor(
        &self,
        request: Request<proto::ConfirmTotpFactorRequest>,
    ) -> Result<Response<proto::ConfirmTotpFactorResponse>, Status> {
        factors::confirm(&self.accounts, request).await
    }

    async fn list_second_factors(
        &self,
        request: Request<proto::ListSecondFactorsRequest>,
    ) -> Result<Response<proto::ListSecondFactorsResponse>, Status> {
        factors::list(&self.accounts, request).await
    }

    async fn delete_second_factor(
        &self,
        request: Request<proto::DeleteSecondFactorRequest>,
    ) -> Result<Response<proto::DeleteSecondFactorResponse>, Status> {
        factors::delete(&self.accounts, request).await
    }

    async fn renew_recovery_codes(
        &self,
        request: Request<proto::RenewRecoveryCodesRequest>,
    ) -> Result<Response<proto::RenewRecoveryCodesResponse>, Status> {
        factors::renew_recovery_codes(&self.accounts, request).await
    }

    async fn get_client_address(
        &self,
        request: Request<proto::GetClientAddressRequest>,
    ) -> Result<Response<proto::GetClientAddressResponse>, Status> {
        let address = request.extensions().get::<ClientAddress>().copied().unwrap_or_default();
        Ok(Response::new(proto::GetClientAddressResponse {
            ip_address: text(address.client()),
            limiter_bucket: text(address.bucket().map(bucket)),
            peer_address: text(address.peer()),
        }))
    }
}

/// Returns the network as text. A network of one address is written as that address.
fn bucket(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// Returns the address as text, which is empty if there is none.
fn text(address: Option<impl ToString>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn password_change(request: &ChangePasswordRequest, rules: PasswordRules) -> Result<PasswordChange, InvalidFields> {
    let mut fields = Fields::new();
    let current = fields.check("current_password", Password::presented(&request.current_password));
    let new = passwords::replacing(
        &mut fields,
        rules,
        current.as_ref(),
        &request.new_password,
        &request.new_password_confirmation,
    );
    fields.finish(|| {
        Some(PasswordChange {
            current: current?,
            new: new?,
        })
    })
}
