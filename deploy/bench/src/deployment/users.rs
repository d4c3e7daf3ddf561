//! Users with an account.

use proto::auth::v1::{RegisterRequest, RegisterResponse, auth_service_client::AuthServiceClient};
use testing::rpc::channel;
use tonic::transport::Channel;

use super::{Deployment, PASSWORD};

/// User who is logged in, with a connection of their own.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) login: String,
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    /// Connection to auth-service.
    pub(crate) channel: Channel,
}

impl Deployment {
    pub(crate) async fn register(&self, login: &str) -> RegisterResponse {
        let request = RegisterRequest {
            email: format!("{login}@example.test"),
            login: login.to_owned(),
            password: PASSWORD.to_owned(),
            password_confirmation: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        self.auth().register(request).await.expect("registered").into_inner()
    }

    /// Registers this many users.
    pub(crate) async fn register_users(&self, count: usize) -> Vec<User> {
        let mut users = Vec::new();
        let bar = super::progress("users", u64::try_from(count).unwrap_or(0));
        for number in 0..count {
            let login = format!("user-{number}");
            let registered = self.register(&login).await;
            let (user, tokens) = (registered.user.expect("a user"), registered.tokens.expect("tokens"));
            users.push(User {
                id: user.user_id,
                login,
                access_token: tokens.access_token,
                refresh_token: tokens.refresh_token,
                channel: channel(self.auth_address),
            });
            bar.inc(1);
        }
        bar.finish_and_clear();
        users
    }
}

impl User {
    pub(crate) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }
}
