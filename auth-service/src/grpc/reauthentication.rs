//! The call by which the bearer of an access token proves once more who they are.

use base::validate::{Fields, InvalidFields};
use proto::auth::v1::{ReauthenticateRequest, ReauthenticateResponse, reauthenticate_request::Proof as Presented};
use secrecy::SecretString;
use tonic::{Request, Response, Status};

use super::{convert, factors, guests, request_context::request_context};
use crate::domain::{Accounts, Password, Proof, RequestedAudience, SecondProof};

pub(super) async fn reauthenticate(
    accounts: &Accounts,
    request: Request<ReauthenticateRequest>,
) -> Result<Response<ReauthenticateResponse>, Status> {
    let context = request_context(&request);
    let (proof, audience) = parse(request.into_inner())?;
    let access = accounts.reauthenticate(&context, proof, audience.as_ref()).await?;
    Ok(Response::new(convert::reauthenticated(&access)))
}

/// Reads the proof, and the audience if the request names one.
fn parse(request: ReauthenticateRequest) -> Result<(Proof, Option<RequestedAudience>), InvalidFields> {
    let mut fields = Fields::new();
    let proof = match request.proof {
        Some(Presented::Password(password)) => fields
            .check("password", Password::presented(&password))
            .map(Proof::Password),
        Some(Presented::GuestCredential(credential)) => {
            guests::credential(&mut fields, &credential);
            Some(Proof::GuestCredential(SecretString::from(credential)))
        }
        Some(Presented::TotpCode(code)) => {
            let code = factors::totp_code(&mut fields, code);
            code.map(|code| Proof::SecondFactor(SecondProof::Totp(code)))
        }
        Some(Presented::RecoveryCode(code)) => {
            let code = factors::recovery_code(&mut fields, code);
            code.map(|code| Proof::SecondFactor(SecondProof::RecoveryCode(code)))
        }
        None => {
            fields.reject(
                "password",
                "is required unless the caller is a guest, who sends a guest_credential",
            );
            None
        }
    };
    let audience = match request.audience.as_str() {
        "" => None,
        named => fields.check("audience", named.parse()),
    };
    fields.finish(|| Some((proof?, audience)))
}
