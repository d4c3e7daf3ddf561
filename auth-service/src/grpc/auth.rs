//! `auth.v1.AuthService`.

use ::proto::auth::v1::{
    self as proto, IntrospectTokenRequest, IntrospectTokenResponse, LoginGuestRequest, LoginGuestResponse,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshAccessTokenRequest, RefreshAccessTokenResponse,
    RegisterGuestRequest, RegisterGuestResponse, RegisterRequest, RegisterResponse, RequestPasswordResetRequest,
    RequestPasswordResetResponse, ResetPasswordRequest, ResetPasswordResponse, RevokeAllTokensRequest,
    RevokeAllTokensResponse, RevokeTokenRequest, RevokeTokenResponse, RotateTokensRequest, RotateTokensResponse,
    auth_service_server::AuthService,
};
use access::{
    authz::{self, Caller},
    token::TokenError,
};
use base::validate::{Fields, InvalidFields};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    convert, credentials, factors, guests, locale, passwords,
    request_context::{context_without_bearer, request_context},
    transport::Transports,
};
use crate::{
    domain::{
        Accounts, Credentials, Error, MAX_TOKEN_LEN, NewGuest, NewPerson, Password, PasswordReset, PasswordRules,
        Registered, Registration, RequestedAudience, ResetRequest, ServiceAccounts, Sessions, ensure_not_reserved,
    },
    mail::Locale,
};

/// Maximum size of a client id or a client secret, in bytes.
const MAX_CLIENT_CREDENTIAL_BYTES: usize = 1024;

/// Serves `auth.v1.AuthService`.
#[derive(Clone, Debug)]
pub(crate) struct AuthRpc {
    pub(crate) accounts: Accounts,
    pub(crate) sessions: Sessions,
    pub(crate) service_accounts: ServiceAccounts,
    pub(crate) transports: Transports,
}

#[tonic::async_trait]
impl AuthService for AuthRpc {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let context = request_context(&request);
        let transport = self.transports.of(&request)?;
        let accepted = locale::accepted(&request);
        let request = request.into_inner();
        let registration = registration(&request, &accepted, self.accounts.password_rules)?;
        let (registration, audience) = registration;
        let logged_in = match self.accounts.register(&context, registration, &audience).await? {
            Registered::LoggedIn(logged_in) => logged_in,
            Registered::Unverified(user) => {
                return Ok(Response::new(RegisterResponse {
                    user: Some(convert::user(*user)),
                    ..RegisterResponse::default()
                }));
            }
            Registered::Challenged(user, challenge) => {
                return Ok(Response::new(RegisterResponse {
                    user: Some(convert::user(*user)),
                    challenge: Some(factors::challenge(&challenge)),
                    ..RegisterResponse::default()
                }));
            }
        };
        Ok(
            transport.deliver(convert::token_pair(&logged_in.tokens), |tokens| RegisterResponse {
                tokens: Some(tokens),
                user: Some(convert::user(logged_in.user)),
                device_token: logged_in.device_token.expose_secret().to_owned(),
                challenge: None,
            }),
        )
    }

    async fn register_guest(
        &self,
        request: Request<RegisterGuestRequest>,
    ) -> Result<Response<RegisterGuestResponse>, Status> {
        let context = request_context(&request);
        let transport = self.transports.of(&request)?;
        let accepted = locale::accepted(&request);
        let (locale, audience) = guests::registration(&request.into_inner(), &accepted)?;
        let NewGuest { logged_in, credential } = self.accounts.register_guest(&context, &locale, &audience).await?;
        Ok(
            transport.deliver(convert::token_pair(&logged_in.tokens), |tokens| RegisterGuestResponse {
                tokens: Some(tokens),
                user: Some(convert::user(logged_in.user)),
                device_token: logged_in.device_token.expose_secret().to_owned(),
                guest_credential: credential.expose_secret().to_owned(),
            }),
        )
    }

    async fn login_guest(&self, request: Request<LoginGuestRequest>) -> Result<Response<LoginGuestResponse>, Status> {
        let context = context_without_bearer(&request);
        let transport = self.transports.of(&request)?;
        let login = guests::login(request.into_inner())?;
        let logged_in = self.accounts.login_guest(&context, &login).await?;
        Ok(
            transport.deliver(convert::token_pair(&logged_in.tokens), |tokens| LoginGuestResponse {
                tokens: Some(tokens),
                user: Some(convert::user(logged_in.user)),
                device_token: logged_in.device_token.expose_secret().to_owned(),
            }),
        )
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let context = context_without_bearer(&request);
        let transport = self.transports.of(&request)?;
        let credentials = login(request.into_inner(), self.accounts.password_rules)?;
        let outcome = self.accounts.login(&context, credentials).await?;
        Ok(factors::login_response(&transport, outcome))
    }

    async fn begin_enrolment(
        &self,
        request: Request<proto::BeginEnrolmentRequest>,
    ) -> Result<Response<proto::BeginEnrolmentResponse>, Status> {
        factors::begin_enrolment(&self.accounts, request).await
    }

    async fn complete_login(
        &self,
        request: Request<proto::CompleteLoginRequest>,
    ) -> Result<Response<proto::CompleteLoginResponse>, Status> {
        let transport = self.transports.of(&request)?;
        factors::complete_login(&self.accounts, transport, request).await
    }

    async fn request_password_reset(
        &self,
        request: Request<RequestPasswordResetRequest>,
    ) -> Result<Response<RequestPasswordResetResponse>, Status> {
        let context = request_context(&request);
        let locale = locale::accepted(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        credentials::identifier(&mut fields, &request.identifier);
        fields.finish(|| Some(()))?;
        let request = ResetRequest {
            identifier: request.identifier,
            device_token: Some(request.device_token)
                .filter(|token| token.len() <= MAX_TOKEN_LEN)
                .unwrap_or_default(),
            locale: locale.as_str().to_owned(),
        };
        self.accounts.request_password_reset(&context, &request).await?;
        Ok(Response::new(RequestPasswordResetResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        let context = context_without_bearer(&request);
        let transport = self.transports.of(&request)?;
        let reset = password_reset(request.into_inner(), self.accounts.password_rules)?;
        let outcome = self.accounts.reset_password(&context, reset).await?;
        let (metadata, login, extensions) = factors::login_response(&transport, outcome).into_parts();
        let response = ResetPasswordResponse {
            user: login.user,
            tokens: login.tokens,
            device_token: login.device_token,
            challenge: login.challenge,
        };
        Ok(Response::from_parts(metadata, response, extensions))
    }

    async fn refresh_access_token(
        &self,
        request: Request<RefreshAccessTokenRequest>,
    ) -> Result<Response<RefreshAccessTokenResponse>, Status> {
        let context = context_without_bearer(&request);
        let mut transport = self.transports.of(&request)?;
        let request = request.into_inner();
        let mut token = request.refresh_token;
        transport.fill(&mut token, &self.sessions).await?;
        let mut fields = Fields::new();
        if token.is_empty() {
            fields.reject("refresh_token", transport.missing());
        }
        let audience = fields.check("audience", request.audience.parse());
        let audience = fields.finish(|| audience)?;
        let access = self.sessions.refresh_access_token(&context, &token, &audience).await;
        let access = access.map_err(|error| transport.refuse(error))?;
        Ok(Response::new(convert::access_token(&access)))
    }

    async fn rotate_tokens(
        &self,
        request: Request<RotateTokensRequest>,
    ) -> Result<Response<RotateTokensResponse>, Status> {
        let context = context_without_bearer(&request);
        let mut transport = self.transports.of(&request)?;
        let mut request = request.into_inner();
        transport.fill(&mut request.refresh_token, &self.sessions).await?;
        let (request_id, audience) = rotation(&request, transport.missing())?;
        let pair = self
            .sessions
            .rotate(&context, &request.refresh_token, request_id.as_deref(), &audience)
            .await
            .map_err(|error| transport.refuse(error))?;
        Ok(
            transport.deliver(convert::token_pair(&pair), |tokens| RotateTokensResponse {
                tokens: Some(tokens),
            }),
        )
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let context = request_context(&request);
        let mut transport = self.transports.of(&request)?;
        let mut token = request.get_ref().refresh_token.clone();
        transport.fill(&mut token, &self.sessions).await?;
        if token.is_empty() {
            if let Some(Caller::Refused(TokenError::Revoked)) = request.extensions().get::<Caller>() {
                // The session has already ended, as the caller wants.
                return Ok(transport.clear(LogoutResponse {}));
            }
            // The RPC is public, because a refresh token is enough. Without one, it requires a
            // valid access token.
            let principal = authz::principal(&request)?;
            if principal.wanted_audience().is_some() {
                // Another service may have this token, and must not log the user out with it.
                return Err(Error::AudienceRequired.into());
            }
            match principal.session_id() {
                Some(session_id) => self.sessions.logout(&context, session_id).await?,
                None => self.sessions.revoke_service_tokens(&context, &principal).await?,
            }
        } else {
            let ended = self.sessions.logout_by_refresh_token(&context, &token).await;
            ended.map_err(|error| transport.refuse(error))?;
        }
        Ok(transport.clear(LogoutResponse {}))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let context = request_context(&request);
        let mut transport = self.transports.of(&request)?;
        // The hint is not needed, because neither kind of token can be mistaken for the other.
        let mut token = request.into_inner().token;
        let is_own = token.is_empty();
        transport.fill(&mut token, &self.sessions).await?;
        if token.is_empty() {
            return Err(InvalidFields::one("token", "is required").into());
        }
        let revoked = self.sessions.revoke_token(&context, &token).await;
        revoked.map_err(|error| transport.refuse(error))?;
        if is_own {
            return Ok(transport.clear(RevokeTokenResponse {}));
        }
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn revoke_all_tokens(
        &self,
        request: Request<RevokeAllTokensRequest>,
    ) -> Result<Response<RevokeAllTokensResponse>, Status> {
        let transport = self.transports.of(&request)?;
        let ended = self.sessions.revoke_all_own(&request_context(&request)).await?;
        Ok(transport.clear(RevokeAllTokensResponse {
            session_count: i32::try_from(ended).unwrap_or(i32::MAX),
        }))
    }

    async fn issue_service_token(
        &self,
        request: Request<proto::IssueServiceTokenRequest>,
    ) -> Result<Response<proto::IssueServiceTokenResponse>, Status> {
        let context = request_context(&request);
        let request = request.into_inner();
        let mut fields = Fields::new();
        for (field, text) in [
            ("client_id", &request.client_id),
            ("client_secret", &request.client_secret),
        ] {
            if text.is_empty() {
                fields.reject(field, "is required");
            } else if text.len() > MAX_CLIENT_CREDENTIAL_BYTES {
                fields.reject(field, "must be at most 1024 bytes");
            }
        }
        let audience = fields.check("audience", request.audience.parse());
        let audience = fields.finish(|| audience)?;
        let token = self
            .service_accounts
            .issue_token(&context, (&request.client_id, &request.client_secret), &audience)
            .await?;
        Ok(Response::new(convert::service_token(&token)))
    }

    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        let caller = authz::principal(&request)?;
        let token = request.into_inner().token;
        if token.is_empty() {
            return Err(InvalidFields::one("token", "is required").into());
        }
        let found = self.sessions.introspect(&token, &caller).await?;
        Ok(Response::new(found.map(convert::introspection).unwrap_or_default()))
    }
}

fn registration(
    request: &RegisterRequest,
    accepted: &Locale,
    rules: PasswordRules,
) -> Result<(Registration, RequestedAudience), InvalidFields> {
    let mut fields = Fields::new();
    let email = fields.check("email", request.email.parse());
    let login = fields.check("login", request.login.parse());
    ensure_not_reserved(&mut fields, login.as_ref(), email.as_ref());
    let password = passwords::confirmed(
        &mut fields,
        rules,
        ["password", "password_confirmation"],
        [&request.password, &request.password_confirmation],
    );
    if password
        .as_ref()
        .is_some_and(|password| password.is_login_or_email(login.as_ref(), email.as_ref()))
    {
        fields.reject("password", "must not be the login or the e-mail address");
    }
    let first_name = fields.check("first_name", request.first_name.parse());
    let last_name = fields.check("last_name", request.last_name.parse());
    let middle_name = fields.check("middle_name", request.middle_name.parse());
    let audience = fields.check("audience", request.audience.parse());
    let locale = fields.check("locale", request.locale.parse::<Locale>());
    fields.finish(|| {
        let locale = locale?;
        let person = NewPerson {
            email: email?,
            login: login?,
            first_name: first_name?,
            last_name: last_name?,
            middle_name: middle_name?,
            locale: if locale.as_str().is_empty() {
                accepted.clone()
            } else {
                locale
            },
        };
        let password = password?;
        Some((Registration { person, password }, audience?))
    })
}

fn login(request: LoginRequest, rules: PasswordRules) -> Result<Credentials, InvalidFields> {
    let mut fields = Fields::new();
    credentials::identifier(&mut fields, &request.identifier);
    let password = fields.check("password", Password::presented(&request.password));
    let mut new_password = None;
    if !(request.new_password.is_empty() && request.new_password_confirmation.is_empty()) {
        new_password = passwords::replacing(
            &mut fields,
            rules,
            password.as_ref(),
            &request.new_password,
            &request.new_password_confirmation,
        );
    }
    let audience = fields.check("audience", request.audience.parse());
    fields.finish(|| {
        Some(Credentials {
            identifier: request.identifier,
            device_token: request.device_token,
            password: password?,
            new_password,
            audience: audience?,
        })
    })
}

fn password_reset(request: ResetPasswordRequest, rules: PasswordRules) -> Result<PasswordReset, InvalidFields> {
    let mut fields = Fields::new();
    credentials::identifier(&mut fields, &request.identifier);
    let code = credentials::code(&mut fields, &request.code);
    let new_password = passwords::confirmed(
        &mut fields,
        rules,
        ["new_password", "new_password_confirmation"],
        [&request.new_password, &request.new_password_confirmation],
    );
    let audience = fields.check("audience", request.audience.parse());
    fields.finish(|| {
        Some(PasswordReset {
            identifier: request.identifier,
            code: code?,
            new_password: new_password?,
            audience: audience?,
        })
    })
}

/// Returns the normalized request id, if there is one, and the requested audience. `missing` says
/// what is wrong without a refresh token.
fn rotation(
    request: &RotateTokensRequest,
    missing: &'static str,
) -> Result<(Option<String>, RequestedAudience), InvalidFields> {
    let mut fields = Fields::new();
    if request.refresh_token.is_empty() {
        fields.reject("refresh_token", missing);
    }
    let mut request_id = None;
    if !request.request_id.is_empty() {
        let parsed = Uuid::try_parse(&request.request_id).ok();
        let parsed = parsed.filter(|id| id.get_version_num() == 4).ok_or("must be a UUIDv4");
        request_id = fields.check("request_id", parsed).map(|id| id.to_string());
    }
    let audience = fields.check("audience", request.audience.parse());
    fields.finish(|| Some((request_id, audience?)))
}
