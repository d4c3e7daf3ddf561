//! The calls of `auth.v1.AccountService` about the caller's e-mail address. They are public,
//! because users who have not verified their address may not be able to log in. Each authenticates
//! its caller itself.

use ::proto::auth::v1 as proto;
use access::authz::{self, Caller};
use base::validate::Fields;
use tonic::{Request, Response, Status};

use super::{
    convert, credentials,
    request_context::{context_without_bearer, request_context},
};
use crate::domain::{
    Accounts, AddressOwner, Email, Error, Password, PresentedCode, RequestContext, ensure_not_reserved,
};

pub(super) async fn request_verification(
    accounts: &Accounts,
    request: Request<proto::RequestEmailVerificationRequest>,
) -> Result<Response<proto::RequestEmailVerificationResponse>, Status> {
    let body = request.get_ref();
    let context = context_of(&request, &body.identifier);
    let mut fields = Fields::new();
    let owner = address_owner(&request, &mut fields, [&body.identifier, &body.password])?;
    let owner = fields.finish(|| owner)?;
    accounts.request_email_verification(&context, owner).await?;
    Ok(Response::new(proto::RequestEmailVerificationResponse {}))
}

pub(super) async fn verify(
    accounts: &Accounts,
    request: Request<proto::VerifyEmailRequest>,
) -> Result<Response<proto::VerifyEmailResponse>, Status> {
    let body = request.get_ref();
    let (context, owner, code) = owner_with_code(&request, [&body.identifier, &body.password], &body.code)?;
    let user = accounts.verify_email(&context, owner, code).await?;
    Ok(Response::new(proto::VerifyEmailResponse {
        user: Some(convert::user(user)),
    }))
}

pub(super) async fn change(
    accounts: &Accounts,
    request: Request<proto::ChangeEmailRequest>,
) -> Result<Response<proto::ChangeEmailResponse>, Status> {
    let body = request.get_ref();
    let context = context_of(&request, &body.identifier);
    let mut fields = Fields::new();
    let identifier = Some(body.identifier.clone()).filter(|identifier| !identifier.is_empty());
    match &identifier {
        Some(identifier) => credentials::identifier(&mut fields, identifier),
        None => ensure_bearer(&request, &mut fields, &["identifier"])?,
    }
    let email = fields.check("email", body.email.parse::<Email>());
    // Only a bearer can have none.
    let password = match body.current_password.as_str() {
        "" if identifier.is_none() => None,
        given => fields.check("current_password", Password::presented(given)),
    };
    if email.is_none() && body.current_password.is_empty() {
        fields.reject("current_password", "is required unless the account has no password");
    }
    ensure_not_reserved(&mut fields, None, email.as_ref());
    let email = fields.finish(|| email)?;
    accounts.change_email(&context, identifier, password, email).await?;
    Ok(Response::new(proto::ChangeEmailResponse {}))
}

pub(super) async fn confirm_change(
    accounts: &Accounts,
    request: Request<proto::ConfirmEmailChangeRequest>,
) -> Result<Response<proto::ConfirmEmailChangeResponse>, Status> {
    let body = request.get_ref();
    let (context, owner, code) = owner_with_code(&request, [&body.identifier, &body.password], &body.code)?;
    let user = accounts.confirm_email_change(&context, owner, code).await?;
    Ok(Response::new(proto::ConfirmEmailChangeResponse {
        user: Some(convert::user(user)),
    }))
}

pub(super) async fn revert_change(
    accounts: &Accounts,
    request: Request<proto::RevertEmailChangeRequest>,
) -> Result<Response<proto::RevertEmailChangeResponse>, Status> {
    let context = request_context(&request);
    let body = request.get_ref();
    let mut fields = Fields::new();
    let user_id = fields.check("user_id", body.user_id.parse());
    let code = credentials::code(&mut fields, &body.code);
    let (user_id, code) = fields.finish(|| Some((user_id?, code?)))?;
    accounts.revert_email_change(&context, user_id, code).await?;
    Ok(Response::new(proto::RevertEmailChangeResponse {}))
}

/// Reads who the caller is, and the code from a mail to them.
fn owner_with_code<T>(
    request: &Request<T>,
    [identifier, password]: [&String; 2],
    code: &str,
) -> Result<(RequestContext, AddressOwner, PresentedCode), Status> {
    let mut fields = Fields::new();
    let owner = address_owner(request, &mut fields, [identifier, password])?;
    let code = credentials::code(&mut fields, code);
    let (owner, code) = fields.finish(|| Some((owner?, code?)))?;
    Ok((context_of(request, identifier), owner, code))
}

/// Reads the optional fields `identifier` and `password`. Without both, the caller is the bearer of
/// the access token.
fn address_owner<T>(
    request: &Request<T>,
    fields: &mut Fields,
    [identifier, password]: [&String; 2],
) -> Result<Option<AddressOwner>, Status> {
    if identifier.is_empty() && password.is_empty() {
        ensure_bearer(request, fields, &["identifier", "password"])?;
        return Ok(Some(AddressOwner::Bearer));
    }
    credentials::identifier(fields, identifier);
    let password = fields.check("password", Password::presented(password));
    Ok(password.map(|password| AddressOwner::Credentials {
        identifier: identifier.clone(),
        password,
    }))
}

/// Refuses a caller whose access token is not valid for this service. If there is no token, records
/// the fields that are required in its place.
fn ensure_bearer<T>(request: &Request<T>, fields: &mut Fields, instead: &[&'static str]) -> Result<(), Status> {
    if let None | Some(Caller::Anonymous) = request.extensions().get::<Caller>() {
        for field in instead {
            fields.reject(*field, "is required without an access token");
        }
        return Ok(());
    }
    let principal = authz::principal(request)?;
    if principal.wanted_audience().is_some() {
        // Another service may have this token, and must not act on the account with it.
        return Err(Error::AudienceRequired.into());
    }
    Ok(())
}

/// Returns the context of the request. A caller who gives an `identifier` is not the bearer of the
/// access token.
fn context_of<T>(request: &Request<T>, identifier: &str) -> RequestContext {
    if identifier.is_empty() {
        request_context(request)
    } else {
        context_without_bearer(request)
    }
}
