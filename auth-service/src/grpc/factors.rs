//! The calls about second factors: those of users in `AccountService`, and the completion of a
//! login in `AuthService`.

use ::proto::auth::v1::{self as proto, complete_login_request::Proof as Presented};
use base::validate::{Fields, InvalidFields};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};

use super::{
    convert,
    request_context::{context_without_bearer, request_context},
    transport::Transport,
};
use crate::{
    domain::{Accounts, Challenge, LoginOutcome, MAX_TOKEN_LEN, SecondProof, TotpSetup},
    model::TotpFactor,
};

/// Maximum size of a recovery code, in bytes, with hyphens and blanks.
const MAX_RECOVERY_CODE_BYTES: usize = 64;

pub(super) async fn create(
    accounts: &Accounts,
    request: Request<proto::CreateTotpFactorRequest>,
) -> Result<Response<proto::CreateTotpFactorResponse>, Status> {
    let context = request_context(&request);
    let mut fields = Fields::new();
    let name = fields.check("display_name", request.get_ref().display_name.parse());
    let name = fields.finish(|| name)?;
    let (factor, setup) = accounts.create_factor(&context, name).await?;
    let TotpSetup { secret, uri } = setup;
    Ok(Response::new(proto::CreateTotpFactorResponse {
        factor: Some(second_factor(factor)),
        secret: secret.expose_secret().to_owned(),
        otpauth_uri: uri.expose_secret().to_owned(),
    }))
}

pub(super) async fn confirm(
    accounts: &Accounts,
    request: Request<proto::ConfirmTotpFactorRequest>,
) -> Result<Response<proto::ConfirmTotpFactorResponse>, Status> {
    let context = request_context(&request);
    let request = request.into_inner();
    let mut fields = Fields::new();
    let id = fields.id("factor_id", &request.factor_id);
    let code = totp_code(&mut fields, request.totp_code);
    let (id, code) = fields.finish(|| Some((id?, code?)))?;
    let (factor, codes) = accounts.confirm_factor(&context, id, &code).await?;
    Ok(Response::new(proto::ConfirmTotpFactorResponse {
        factor: Some(second_factor(factor)),
        recovery_codes: exposed(&codes),
    }))
}

pub(super) async fn list(
    accounts: &Accounts,
    request: Request<proto::ListSecondFactorsRequest>,
) -> Result<Response<proto::ListSecondFactorsResponse>, Status> {
    let listed = accounts.list_factors(&request_context(&request)).await?;
    Ok(Response::new(proto::ListSecondFactorsResponse {
        factors: listed.factors.into_iter().map(second_factor).collect(),
        recovery_codes_left: i32::try_from(listed.recovery_codes).unwrap_or(i32::MAX),
    }))
}

pub(super) async fn delete(
    accounts: &Accounts,
    request: Request<proto::DeleteSecondFactorRequest>,
) -> Result<Response<proto::DeleteSecondFactorResponse>, Status> {
    let context = request_context(&request);
    let mut fields = Fields::new();
    let id = fields.id("factor_id", &request.get_ref().factor_id);
    let id = fields.finish(|| id)?;
    accounts.delete_factor(&context, id).await?;
    Ok(Response::new(proto::DeleteSecondFactorResponse {}))
}

pub(super) async fn renew_recovery_codes(
    accounts: &Accounts,
    request: Request<proto::RenewRecoveryCodesRequest>,
) -> Result<Response<proto::RenewRecoveryCodesResponse>, Status> {
    let codes = accounts.renew_recovery_codes(&request_context(&request)).await?;
    Ok(Response::new(proto::RenewRecoveryCodesResponse {
        recovery_codes: exposed(&codes),
    }))
}

pub(super) async fn begin_enrolment(
    accounts: &Accounts,
    request: Request<proto::BeginEnrolmentRequest>,
) -> Result<Response<proto::BeginEnrolmentResponse>, Status> {
    let context = context_without_bearer(&request);
    let request = request.into_inner();
    let mut fields = Fields::new();
    challenge_token(&mut fields, &request.challenge_token);
    let code = match request.email_code.as_str() {
        "" => None,
        text => fields.check("email_code", text.parse()),
    };
    fields.finish(|| Some(()))?;
    let begun = accounts.begin_enrolment(&context, &request.challenge_token, code.as_ref());
    let TotpSetup { secret, uri } = begun.await?;
    Ok(Response::new(proto::BeginEnrolmentResponse {
        secret: secret.expose_secret().to_owned(),
        otpauth_uri: uri.expose_secret().to_owned(),
    }))
}

pub(super) async fn complete_login(
    accounts: &Accounts,
    transport: Transport,
    request: Request<proto::CompleteLoginRequest>,
) -> Result<Response<proto::CompleteLoginResponse>, Status> {
    let context = context_without_bearer(&request);
    let (token, proof) = completion(request.into_inner())?;
    let (logged_in, codes) = accounts.complete_login(&context, &token, &proof).await?;
    Ok(transport.deliver(convert::token_pair(&logged_in.tokens), |tokens| {
        proto::CompleteLoginResponse {
            user: Some(convert::user(logged_in.user)),
            tokens: Some(tokens),
            device_token: logged_in.device_token.expose_secret().to_owned(),
            recovery_codes: exposed(&codes),
        }
    }))
}

/// Returns the response to a login: tokens, or a challenge. Without tokens, neither the user nor a
/// device token is part of it.
pub(super) fn login_response(transport: &Transport, outcome: LoginOutcome) -> Response<proto::LoginResponse> {
    match outcome {
        LoginOutcome::Challenged(needed) => Response::new(proto::LoginResponse {
            challenge: Some(challenge(&needed)),
            ..proto::LoginResponse::default()
        }),
        LoginOutcome::LoggedIn(logged_in) => {
            transport.deliver(convert::token_pair(&logged_in.tokens), |tokens| proto::LoginResponse {
                tokens: Some(tokens),
                user: Some(convert::user(logged_in.user)),
                device_token: logged_in.device_token.expose_secret().to_owned(),
                challenge: None,
            })
        }
    }
}

/// Reads a required code of an authenticator app. Blanks in it are ignored.
pub(super) fn totp_code(fields: &mut Fields, text: String) -> Option<SecretString> {
    let text = SecretString::from(text);
    let digits: String = text.expose_secret().chars().filter(|c| !c.is_whitespace()).collect();
    let digits = SecretString::from(digits);
    let given = digits.expose_secret();
    if given.is_empty() {
        fields.reject("totp_code", "is required");
        return None;
    }
    if given.len() != crate::domain::TOTP_DIGITS || !given.bytes().all(|byte| byte.is_ascii_digit()) {
        fields.reject("totp_code", "must be the six digits that the app shows");
        return None;
    }
    Some(digits)
}

/// Reads a required recovery code.
pub(super) fn recovery_code(fields: &mut Fields, text: String) -> Option<SecretString> {
    if text.trim().is_empty() {
        fields.reject("recovery_code", "is required");
        return None;
    }
    if text.len() > MAX_RECOVERY_CODE_BYTES {
        fields.reject("recovery_code", "must be at most 64 bytes");
        return None;
    }
    Some(SecretString::from(text))
}

fn completion(request: proto::CompleteLoginRequest) -> Result<(String, SecondProof), InvalidFields> {
    let mut fields = Fields::new();
    challenge_token(&mut fields, &request.challenge_token);
    let proof = match request.proof {
        Some(Presented::TotpCode(code)) => totp_code(&mut fields, code).map(SecondProof::Totp),
        Some(Presented::RecoveryCode(code)) => recovery_code(&mut fields, code).map(SecondProof::RecoveryCode),
        None => {
            fields.reject("totp_code", "is required, or a recovery_code");
            None
        }
    };
    fields.finish(|| Some((request.challenge_token, proof?)))
}

fn challenge_token(fields: &mut Fields, token: &str) {
    if token.is_empty() {
        fields.reject("challenge_token", "is required");
    } else if token.len() > MAX_TOKEN_LEN {
        fields.reject("challenge_token", "must be at most 128 bytes");
    }
}

pub(super) fn challenge(needed: &Challenge) -> proto::LoginChallenge {
    let methods: &[&str] = if needed.is_enrolment {
        &["totp"]
    } else {
        &["totp", "recovery_code"]
    };
    proto::LoginChallenge {
        challenge_token: needed.token.expose_secret().to_owned(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        enrol: needed.is_enrolment,
        email_code_required: needed.needs_email_code,
        expire_time: Some(needed.expire_time.into()),
    }
}

pub(super) fn second_factor(factor: TotpFactor) -> proto::SecondFactor {
    proto::SecondFactor {
        factor_id: factor.id.to_string(),
        display_name: factor.display_name,
        create_time: Some(factor.create_time.into()),
        confirm_time: factor.confirm_time.map(Into::into),
    }
}

fn exposed(codes: &[SecretString]) -> Vec<String> {
    codes.iter().map(|code| code.expose_secret().to_owned()).collect()
}
