//! Calls that the tests of users and of passwords share.

use proto::auth::v1::{
    ChangePasswordRequest, CreateUserRequest, DeactivateUserRequest, DeleteUserRequest, GetMeRequest, ListUsersRequest,
    LoginRequest, ReactivateUserRequest, RefreshAccessTokenRequest, SetPasswordRequest, TokenPair, User,
    user_service_client::UserServiceClient,
};
use testing::{
    TestDatabase,
    rpc::{channel, with_token},
};
use tonic::{Status, transport::Channel};

use crate::support::{PASSWORD, Server, credentials, settings};

pub(crate) const TEMPORARY: &str = "temporary horse";
pub(crate) const NEW: &str = "another horse";

/// Starts a server with the administrator `admin`. Returns it with the administrator's access
/// token.
pub(crate) async fn administered(database: TestDatabase) -> (Server, String) {
    let server = Server::start_with(database, &settings(&["--bootstrap-admin-password", TEMPORARY])).await;
    let tokens = first_login(&server, "admin", TEMPORARY, PASSWORD)
        .await
        .expect("logged in");
    (server, tokens.access_token)
}

/// Logs in and changes the password.
pub(crate) async fn first_login(server: &Server, login: &str, old: &str, new: &str) -> Result<TokenPair, Status> {
    let request = LoginRequest {
        new_password: new.to_owned(),
        new_password_confirmation: new.to_owned(),
        ..credentials(login, old)
    };
    Ok(server.auth().login(request).await?.into_inner().tokens.expect("tokens"))
}

pub(crate) async fn login(server: &Server, login: &str, password: &str) -> Result<TokenPair, Status> {
    let answer = server.auth().login(credentials(login, password)).await?;
    Ok(answer.into_inner().tokens.expect("tokens"))
}

pub(crate) async fn refresh(server: &Server, token: &str) -> Result<String, Status> {
    let request = RefreshAccessTokenRequest {
        refresh_token: token.to_owned(),
        ..RefreshAccessTokenRequest::default()
    };
    Ok(server
        .auth()
        .refresh_access_token(request)
        .await?
        .into_inner()
        .access_token)
}

pub(crate) async fn me(server: &Server, token: &str) -> Result<User, Status> {
    let answer = server.account().get_me(with_token(GetMeRequest {}, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

/// Asserts that an access token is refused, at once and repeatedly, by the server that acknowledged
/// its end.
pub(crate) async fn assert_refused(server: &Server, token: &str) {
    for _ in 0..5 {
        me(server, token).await.expect_err("refused");
    }
}

pub(crate) fn users(server: &Server) -> UserServiceClient<Channel> {
    UserServiceClient::new(channel(server.grpc))
}

pub(crate) fn change(current: &str, new: &str) -> ChangePasswordRequest {
    ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
        new_password_confirmation: new.to_owned(),
    }
}

pub(crate) fn new_user(login: &str, roles: &[&str]) -> CreateUserRequest {
    CreateUserRequest {
        email: format!("{login}@example.test"),
        login: login.to_owned(),
        password: TEMPORARY.to_owned(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        ..CreateUserRequest::default()
    }
}

pub(crate) async fn create(server: &Server, admin: &str, login: &str, roles: &[&str]) -> String {
    let created = users(server)
        .create_user(with_token(new_user(login, roles), admin))
        .await;
    created.expect("created").into_inner().user.expect("a user").user_id
}

pub(crate) async fn deactivate(server: &Server, token: &str, user_id: &str) -> Result<User, Status> {
    let request = DeactivateUserRequest {
        user_id: user_id.to_owned(),
    };
    let answer = users(server).deactivate_user(with_token(request, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

pub(crate) async fn reactivate(server: &Server, token: &str, user_id: &str) -> Result<User, Status> {
    let request = ReactivateUserRequest {
        user_id: user_id.to_owned(),
    };
    let answer = users(server).reactivate_user(with_token(request, token)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

pub(crate) async fn delete(server: &Server, token: &str, user_id: &str) -> Result<(), Status> {
    let request = DeleteUserRequest {
        user_id: user_id.to_owned(),
    };
    users(server).delete_user(with_token(request, token)).await.map(|_| ())
}

pub(crate) async fn set_password(server: &Server, token: &str, user_id: &str) -> Result<(), Status> {
    let request = SetPasswordRequest {
        user_id: user_id.to_owned(),
        password: TEMPORARY.to_owned(),
    };
    users(server).set_password(with_token(request, token)).await.map(|_| ())
}

pub(crate) async fn list(server: &Server, token: &str, request: ListUsersRequest) -> Vec<String> {
    let answer = users(server)
        .list_users(with_token(request, token))
        .await
        .expect("a list");
    answer.into_inner().users.into_iter().map(|user| user.login).collect()
}
