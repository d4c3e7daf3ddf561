//! Guests: registration, login by credential, upgrade and deletion.

mod administration;
mod idle;
mod login;
mod migration;
mod registration;
pub(crate) mod upgrade;

use proto::auth::v1::{
    DeleteMeRequest, LoginGuestRequest, LoginGuestResponse, RegisterGuestRequest, RegisterGuestResponse,
    UpgradeAccountRequest, UpgradeAccountResponse,
};
use testing::rpc::with_token;
use tonic::Status;

use crate::support::{PASSWORD, Server};

/// A guest with the tokens of the first session.
pub(crate) struct Guest {
    pub(crate) user_id: String,
    pub(crate) login: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) device: String,
    pub(crate) credential: String,
}

impl From<RegisterGuestResponse> for Guest {
    fn from(response: RegisterGuestResponse) -> Self {
        let (user, tokens) = (response.user.expect("a user"), response.tokens.expect("tokens"));
        Self {
            user_id: user.user_id,
            login: user.login,
            access: tokens.access_token,
            refresh: tokens.refresh_token,
            device: response.device_token,
            credential: response.guest_credential,
        }
    }
}

/// Registers a guest.
pub(crate) async fn guest(server: &Server) -> Guest {
    let registered = server.auth().register_guest(RegisterGuestRequest::default()).await;
    registered.expect("a guest").into_inner().into()
}

pub(crate) async fn login_guest(server: &Server, credential: &str) -> Result<LoginGuestResponse, Status> {
    let request = LoginGuestRequest {
        guest_credential: credential.to_owned(),
        ..LoginGuestRequest::default()
    };
    Ok(server.auth().login_guest(request).await?.into_inner())
}

pub(crate) fn upgrade_to(login: &str) -> UpgradeAccountRequest {
    UpgradeAccountRequest {
        login: login.to_owned(),
        email: format!("{login}@example.test"),
        password: PASSWORD.to_owned(),
        password_confirmation: PASSWORD.to_owned(),
        ..UpgradeAccountRequest::default()
    }
}

pub(crate) async fn upgrade(
    server: &Server,
    token: &str,
    request: UpgradeAccountRequest,
) -> Result<UpgradeAccountResponse, Status> {
    let upgraded = server.account().upgrade_account(with_token(request, token)).await?;
    Ok(upgraded.into_inner())
}

pub(crate) async fn delete_me(server: &Server, token: &str, credential: &str) -> Result<(), Status> {
    let request = DeleteMeRequest {
        guest_credential: credential.to_owned(),
        ..DeleteMeRequest::default()
    };
    server.account().delete_me(with_token(request, token)).await.map(drop)
}
