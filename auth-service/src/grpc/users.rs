//! `auth.v1.UserService`.

use ::proto::auth::v1::{
    self as proto, CreateUserRequest, CreateUserResponse, DeactivateUserRequest, DeactivateUserResponse,
    DeleteUserRequest, DeleteUserResponse, GetUserRequest, GetUserResponse, InviteUserRequest, InviteUserResponse,
    ListUsersRequest, ListUsersResponse, ReactivateUserRequest, ReactivateUserResponse, SendPasswordResetRequest,
    SendPasswordResetResponse, SetPasswordRequest, SetPasswordResponse, UpdateUserRequest, UpdateUserResponse,
    user_service_server::UserService,
};
use base::{
    ids::{UserId, UserKind},
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use tonic::{Request, Response, Status};

use super::{convert, fields, profile, request_context::request_context, sessions};
use crate::{
    domain::{
        Accounts, Error, Invitation, MAX_IDENTIFIER_BYTES, NewAccount, NewPerson, Password, PasswordRules,
        Registration, UserReference, ensure_not_reserved, fold, identifier_key,
    },
    mail::Locale,
    model::UserFilter,
};

/// Maximum number of roles of a new user.
const MAX_ROLES: usize = 50;
const MAX_QUERY_LEN: usize = 100;

/// Serves `auth.v1.UserService`.
#[derive(Clone, Debug)]
pub(crate) struct UserRpc {
    pub(crate) accounts: Accounts,
}

#[tonic::async_trait]
impl UserService for UserRpc {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let context = request_context(&request);
        let new = new_account(request.into_inner(), self.accounts.password_rules)?;
        let (created, password_expire_time) = self.accounts.create_user(&context, new).await?;
        Ok(Response::new(CreateUserResponse {
            user: Some(convert::user(created.user)),
            roles: created.roles,
            password_expire_time: Some(password_expire_time.into()),
        }))
    }

    async fn invite_user(&self, request: Request<InviteUserRequest>) -> Result<Response<InviteUserResponse>, Status> {
        let context = request_context(&request);
        let invitation = invitation(request.into_inner())?;
        let invited = self.accounts.invite_user(&context, invitation).await?;
        Ok(Response::new(InviteUserResponse {
            user: Some(convert::user(invited.user)),
            roles: invited.roles,
        }))
    }

    async fn send_password_reset(
        &self,
        request: Request<SendPasswordResetRequest>,
    ) -> Result<Response<SendPasswordResetResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let id = user_id(&request.user_id)?;
        let invalidate = request.invalidate_password;
        self.accounts.send_password_reset(&context, id, invalidate).await?;
        Ok(Response::new(SendPasswordResetResponse {}))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let reference = user_reference(&request.into_inner().user_id)?;
        let found = self.accounts.user(&reference).await?;
        Ok(Response::new(GetUserResponse {
            user: Some(convert::user(found.user)),
            roles: found.roles,
        }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let (page, filter, list) = listing(&request.into_inner())?;
        let (users, next_page_token) = self.accounts.users(&page, &filter, &list).await?;
        Ok(Response::new(ListUsersResponse {
            users: users.into_iter().map(convert::user).collect(),
            next_page_token,
        }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        let id = fields.id("user_id", &request.user_id);
        let changes = profile::changes(fields, request.user.as_ref(), request.update_mask.as_ref());
        let changes = changes?;
        let user = self
            .accounts
            .update_user(&context, id.ok_or(Error::UserNotFound)?, changes)
            .await?;
        Ok(Response::new(UpdateUserResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn set_password(
        &self,
        request: Request<SetPasswordRequest>,
    ) -> Result<Response<SetPasswordResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        let id = fields.id("user_id", &request.user_id);
        let password = fields.check(
            "password",
            Password::chosen(&request.password, self.accounts.password_rules),
        );
        let (id, password) = fields.finish(|| Some((id?, password?)))?;
        let expire_time = self.accounts.set_password(&context, id, password).await?;
        Ok(Response::new(SetPasswordResponse {
            password_expire_time: Some(expire_time.into()),
        }))
    }

    async fn deactivate_user(
        &self,
        request: Request<DeactivateUserRequest>,
    ) -> Result<Response<DeactivateUserResponse>, Status> {
        let context = request_context(&request);
        let id = user_id(&request.into_inner().user_id)?;
        let user = self.accounts.deactivate_user(&context, id).await?;
        Ok(Response::new(DeactivateUserResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn reactivate_user(
        &self,
        request: Request<ReactivateUserRequest>,
    ) -> Result<Response<ReactivateUserResponse>, Status> {
        let context = request_context(&request);
        let id = user_id(&request.into_inner().user_id)?;
        let user = self.accounts.reactivate_user(&context, id).await?;
        Ok(Response::new(ReactivateUserResponse {
            user: Some(convert::user(user)),
        }))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let context = request_context(&request);
        let id = user_id(&request.into_inner().user_id)?;
        self.accounts.delete_user(&context, id).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn reset_second_factors(
        &self,
        request: Request<proto::ResetSecondFactorsRequest>,
    ) -> Result<Response<proto::ResetSecondFactorsResponse>, Status> {
        let context = request_context(&request);
        let id = user_id(&request.into_inner().user_id)?;
        self.accounts.reset_factors(&context, id).await?;
        Ok(Response::new(proto::ResetSecondFactorsResponse {}))
    }

    async fn unlock_user(
        &self,
        request: Request<proto::UnlockUserRequest>,
    ) -> Result<Response<proto::UnlockUserResponse>, Status> {
        let context = request_context(&request);
        let id = user_id(&request.into_inner().user_id)?;
        self.accounts.unlock_user(&context, id).await?;
        Ok(Response::new(proto::UnlockUserResponse {}))
    }

    async fn list_user_sessions(
        &self,
        request: Request<proto::ListUserSessionsRequest>,
    ) -> Result<Response<proto::ListUserSessionsResponse>, Status> {
        sessions::list_user_sessions(&self.accounts.sessions, request).await
    }

    async fn revoke_user_session(
        &self,
        request: Request<proto::RevokeUserSessionRequest>,
    ) -> Result<Response<proto::RevokeUserSessionResponse>, Status> {
        sessions::revoke_user_session(&self.accounts.sessions, request).await
    }

    async fn revoke_user_tokens(
        &self,
        request: Request<proto::RevokeUserTokensRequest>,
    ) -> Result<Response<proto::RevokeUserTokensResponse>, Status> {
        sessions::revoke_user_tokens(&self.accounts.sessions, request).await
    }
}

/// Reads the id, login or e-mail address by which an administrator names a user.
fn user_reference(text: &str) -> Result<UserReference, InvalidFields> {
    let text = text.trim();
    if let Ok(id) = text.parse() {
        return Ok(UserReference::Id(id));
    }
    if text.is_empty() {
        return Err(InvalidFields::one("user_id", "is required"));
    }
    if text.len() > MAX_IDENTIFIER_BYTES || text.chars().any(char::is_control) {
        return Err(InvalidFields::one(
            "user_id",
            "must be an id, a login or an e-mail address",
        ));
    }
    Ok(UserReference::Identifier(identifier_key(text)))
}

fn user_id(text: &str) -> Result<UserId, InvalidFields> {
    let mut fields = Fields::new();
    let id = fields.id("user_id", text);
    fields.finish(|| id)
}

fn new_account(request: CreateUserRequest, rules: PasswordRules) -> Result<NewAccount, InvalidFields> {
    let mut fields = Fields::new();
    let email = fields.check("email", request.email.parse());
    let login = fields.check("login", request.login.parse());
    ensure_not_reserved(&mut fields, login.as_ref(), email.as_ref());
    let password = fields.check("password", Password::chosen(&request.password, rules));
    if password
        .as_ref()
        .is_some_and(|password| password.is_login_or_email(login.as_ref(), email.as_ref()))
    {
        fields.reject("password", "must not be the login or the e-mail address");
    }
    let first_name = fields.check("first_name", request.first_name.parse());
    let last_name = fields.check("last_name", request.last_name.parse());
    let middle_name = fields.check("middle_name", request.middle_name.parse());
    fields::code_names(&mut fields, "roles", &request.roles);
    let roles = fields::distinct(&mut fields, "roles", request.roles, MAX_ROLES);
    let locale: Option<Locale> = fields.check("locale", request.locale.parse());
    fields.finish(|| {
        Some(NewAccount {
            registration: Registration {
                person: NewPerson {
                    email: email?,
                    login: login?,
                    first_name: first_name?,
                    last_name: last_name?,
                    middle_name: middle_name?,
                    locale: locale?,
                },
                password: password?,
            },
            roles,
        })
    })
}

fn invitation(request: InviteUserRequest) -> Result<Invitation, InvalidFields> {
    let mut fields = Fields::new();
    let email = fields.check("email", request.email.parse());
    let login = fields.check("login", request.login.parse());
    ensure_not_reserved(&mut fields, login.as_ref(), email.as_ref());
    let first_name = fields.check("first_name", request.first_name.parse());
    let last_name = fields.check("last_name", request.last_name.parse());
    let middle_name = fields.check("middle_name", request.middle_name.parse());
    fields::code_names(&mut fields, "roles", &request.roles);
    let roles = fields::distinct(&mut fields, "roles", request.roles, MAX_ROLES);
    let locale = fields.check("locale", request.locale.parse());
    fields.finish(|| {
        Some(Invitation {
            person: NewPerson {
                email: email?,
                login: login?,
                first_name: first_name?,
                last_name: last_name?,
                middle_name: middle_name?,
                locale: locale?,
            },
            roles,
        })
    })
}

/// Returns the page, the filter, and the query that page tokens are bound to.
fn listing(request: &ListUsersRequest) -> Result<(PageRequest<UserKind>, UserFilter, String), InvalidFields> {
    let mut fields = Fields::new();
    // The size is checked first, because folding a long text is expensive.
    let is_long = request.query.len() > 4 * MAX_QUERY_LEN || request.query.chars().count() > MAX_QUERY_LEN;
    let is_good = !is_long && !request.query.chars().any(char::is_control);
    if !is_good {
        fields.reject(
            "query",
            "must be at most 100 characters, none of them a control character",
        );
    }
    let role = if request.role.is_empty() {
        None
    } else {
        fields::code_name(&mut fields, "role", &request.role)
    };
    let filter = UserFilter {
        query: if is_good {
            fold(request.query.trim())
        } else {
            String::new()
        },
        show_inactive: request.show_inactive,
        email_is_taken: request.email_is_taken,
        role: role.unwrap_or_default(),
    };
    let list = format!(
        "ListUsers\n{}\n{}\n{}\n{}",
        filter.query, filter.show_inactive, filter.role, filter.email_is_taken
    );
    let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, &list);
    fields.finish(|| Some((page?, filter, list)))
}
