//! The calls about identity providers, and requests with an ID token, read and validated.

use ::proto::auth::v1 as proto;
use access::token::MAX_TOKEN_LEN as MAX_ID_TOKEN_LEN;
use base::validate::{Fields, InvalidFields};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};

use super::{
    convert, locale,
    request_context::{context_without_bearer, request_context},
    transport::Transports,
};
use crate::{
    domain::{Accounts, IdTokenLogin, IdTokenProof, Login, MAX_TOKEN_LEN, ensure_not_reserved},
    ids::IdentityId,
    mail::Locale,
    model::UserIdentity,
};

/// Maximum length of the name of a provider, in bytes. No name is longer.
const MAX_PROVIDER_LEN: usize = 32;

pub(super) fn list_providers(accounts: &Accounts) -> proto::ListIdentityProvidersResponse {
    let providers = accounts.identities.providers.iter().map(|provider| {
        let spec = provider.spec();
        proto::IdentityProvider {
            name: spec.name.clone(),
            display_name: spec.display_name.clone(),
            issuer: spec.issuer.clone(),
            web_client_id: spec.web_client_id.clone().unwrap_or_default(),
        }
    });
    proto::ListIdentityProvidersResponse {
        providers: providers.collect(),
    }
}

pub(super) fn start(
    accounts: &Accounts,
    request: &Request<proto::StartExternalLoginRequest>,
) -> Result<Response<proto::StartExternalLoginResponse>, Status> {
    let context = context_without_bearer(request);
    let provider = &request.get_ref().provider;
    let mut fields = Fields::new();
    check_provider(&mut fields, "provider", provider);
    fields.finish(|| Some(()))?;
    let started = accounts.start_external_login(&context, provider)?;
    Ok(Response::new(proto::StartExternalLoginResponse {
        nonce: started.nonce.expose_secret().to_owned(),
        provider_nonce: started.provider_nonce.expose_secret().to_owned(),
        expires_in: i32::try_from(started.expires_in.as_secs()).unwrap_or(i32::MAX),
    }))
}

pub(super) async fn login(
    accounts: &Accounts,
    transports: &Transports,
    request: Request<proto::LoginWithIdTokenRequest>,
) -> Result<Response<proto::LoginWithIdTokenResponse>, Status> {
    let context = context_without_bearer(&request);
    let transport = transports.of(&request)?;
    let accepted = locale::accepted(&request);
    let login = parse_login(request.into_inner(), &accepted)?;
    let done = accounts.login_with_id_token(&context, &login).await?;
    let (logged_in, is_new_user) = (done.logged_in, done.is_new_user);
    Ok(transport.deliver(convert::token_pair(&logged_in.tokens), |tokens| {
        proto::LoginWithIdTokenResponse {
            tokens: Some(tokens),
            user: Some(convert::user(logged_in.user)),
            device_token: logged_in.device_token.expose_secret().to_owned(),
            is_new_user,
        }
    }))
}

pub(super) async fn upgrade(
    accounts: &Accounts,
    transports: &Transports,
    request: Request<proto::UpgradeAccountWithIdTokenRequest>,
) -> Result<Response<proto::UpgradeAccountWithIdTokenResponse>, Status> {
    let context = request_context(&request);
    let transport = transports.of(&request)?;
    let request = request.into_inner();
    let mut fields = Fields::new();
    let proof = proof(&mut fields, request.id_token);
    let login = chosen_login(&mut fields, &request.login);
    let proof = fields.finish(|| proof)?;
    let (user, tokens) = accounts.upgrade_with_id_token(&context, &proof, login).await?;
    Ok(transport.deliver(convert::token_pair(&tokens), |tokens| {
        proto::UpgradeAccountWithIdTokenResponse {
            user: Some(convert::user(user)),
            tokens: Some(tokens),
        }
    }))
}

pub(super) async fn link(
    accounts: &Accounts,
    request: Request<proto::LinkIdentityRequest>,
) -> Result<Response<proto::LinkIdentityResponse>, Status> {
    let context = request_context(&request);
    let mut fields = Fields::new();
    let proof = proof(&mut fields, request.into_inner().id_token);
    let proof = fields.finish(|| proof)?;
    let linked = accounts.link_identity(&context, &proof).await?;
    Ok(Response::new(proto::LinkIdentityResponse {
        identity: Some(identity(linked)),
    }))
}

pub(super) async fn unlink(
    accounts: &Accounts,
    request: Request<proto::UnlinkIdentityRequest>,
) -> Result<Response<proto::UnlinkIdentityResponse>, Status> {
    let context = request_context(&request);
    let mut fields = Fields::new();
    let id: Option<IdentityId> = fields.id("identity_id", &request.get_ref().identity_id);
    let id = fields.finish(|| id)?;
    accounts.unlink_identity(&context, id).await?;
    Ok(Response::new(proto::UnlinkIdentityResponse {}))
}

pub(super) async fn list(
    accounts: &Accounts,
    request: Request<proto::ListMyIdentitiesRequest>,
) -> Result<Response<proto::ListMyIdentitiesResponse>, Status> {
    let (identities, has_password) = accounts.own_identities(&request_context(&request)).await?;
    Ok(Response::new(proto::ListMyIdentitiesResponse {
        identities: identities.into_iter().map(identity).collect(),
        has_password,
    }))
}

/// Converts an identity to a message.
pub(super) fn identity(identity: UserIdentity) -> proto::LinkedIdentity {
    proto::LinkedIdentity {
        identity_id: identity.id.to_string(),
        provider: identity.provider,
        issuer: identity.issuer,
        subject: identity.subject,
        create_time: Some(identity.create_time.into()),
        last_use_time: identity.last_use_time.map(Into::into),
    }
}

/// Reads the required field `id_token` of a request about the caller's own account.
pub(super) fn proof(fields: &mut Fields, given: Option<proto::IdTokenProof>) -> Option<IdTokenProof> {
    let Some(given) = given else {
        fields.reject("id_token", "is required");
        return None;
    };
    check_provider(fields, "id_token.provider", &given.provider);
    check_id_token(fields, "id_token.id_token", &given.id_token);
    check_nonce(fields, "id_token.nonce", &given.nonce);
    Some(IdTokenProof {
        provider: given.provider,
        id_token: SecretString::from(given.id_token),
        nonce: SecretString::from(given.nonce),
    })
}

fn parse_login(request: proto::LoginWithIdTokenRequest, accepted: &Locale) -> Result<IdTokenLogin, InvalidFields> {
    let mut fields = Fields::new();
    check_provider(&mut fields, "provider", &request.provider);
    check_id_token(&mut fields, "id_token", &request.id_token);
    check_nonce(&mut fields, "nonce", &request.nonce);
    let login = chosen_login(&mut fields, &request.login);
    let audience = fields.check("audience", request.audience.parse());
    let locale = fields.check("locale", request.locale.parse::<Locale>());
    fields.finish(|| {
        let locale = locale.filter(|locale| !locale.as_str().is_empty());
        Some(IdTokenLogin {
            proof: IdTokenProof {
                provider: request.provider,
                id_token: SecretString::from(request.id_token),
                nonce: SecretString::from(request.nonce),
            },
            device_token: Some(request.device_token)
                .filter(|token| token.len() <= MAX_TOKEN_LEN)
                .unwrap_or_default(),
            login,
            locale: locale.unwrap_or_else(|| accepted.clone()),
            audience: audience?,
        })
    })
}

/// Reads the optional login of a new user.
fn chosen_login(fields: &mut Fields, text: &str) -> Option<Login> {
    if text.is_empty() {
        return None;
    }
    let login: Option<Login> = fields.check("login", text.parse());
    ensure_not_reserved(fields, login.as_ref(), None);
    login
}

fn check_provider(fields: &mut Fields, field: &'static str, name: &str) {
    if name.is_empty() {
        fields.reject(field, "is required");
    } else if name.len() > MAX_PROVIDER_LEN {
        fields.reject(field, "must be at most 32 bytes");
    }
}

fn check_id_token(fields: &mut Fields, field: &'static str, token: &str) {
    if token.is_empty() {
        fields.reject(field, "is required");
    } else if token.len() > MAX_ID_TOKEN_LEN {
        fields.reject(field, "must be at most 8 KiB");
    }
}

fn check_nonce(fields: &mut Fields, field: &'static str, nonce: &str) {
    if nonce.is_empty() {
        fields.reject(field, "is required");
    } else if nonce.len() > MAX_TOKEN_LEN {
        fields.reject(field, "must be at most 128 bytes");
    }
}
