//! Authentication of incoming calls by the metadata `authorization` (RFC 6750).

use std::{sync::Arc, time::Duration};

use base::error::ErrorReply;
use proto::authz::v1::ErrorReason;
use tonic::{Code, Request, Status, metadata::MetadataMap, service::Interceptor};

use crate::{
    policy::StepUp,
    token::{Acr, Principal, TokenError, Verifier},
    view::AccessView,
};

const AUTHORIZATION: &str = "authorization";
/// Prefix of auth-service's refresh tokens. Access tokens begin with the base64url of `{`, which is
/// `e`.
const REFRESH_TOKEN_PREFIX: &str = "v1.";

/// Caller of an RPC. [`Authenticate`] adds one to the extensions of every request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The request has no token.
    Anonymous,
    /// The request has a valid token.
    Principal(Arc<Principal>),
    /// The request has a token that is not valid.
    Refused(TokenError),
    /// The request has a valid token, but the login behind it is older or weaker than the RPC
    /// requires. The policy layer refuses such callers itself unless the RPC is public.
    StepUpRequired(StepUp),
}

impl Caller {
    /// Returns the principal, or the error for a caller without one.
    pub fn principal(&self) -> Result<&Arc<Principal>, ErrorReply> {
        let (reason, message) = match self {
            Self::Principal(principal) => return Ok(principal),
            Self::StepUpRequired(required) => return Err(step_up_required(*required)),
            Self::Anonymous => (
                ErrorReason::TokenMissing,
                "sign in first: this call needs `authorization: Bearer <access token>`",
            ),
            Self::Refused(TokenError::Expired) => {
                (ErrorReason::TokenExpired, "the access token has expired; refresh it")
            }
            Self::Refused(TokenError::NotYetValid(early)) => {
                // Add a second to the whole seconds, so that the token is valid when the wait is
                // over.
                let wait = Duration::from_secs(early.as_secs() + 1);
                return Err(ErrorReply::new(
                    Code::Unauthenticated,
                    ErrorReason::TokenNotYetValid,
                    "by this server's clock, the access token was issued in the future; refresh it, or try again later",
                )
                .with_retry_after(wait));
            }
            Self::Refused(TokenError::Stale) => (
                ErrorReason::TokenStale,
                "the access token is out of date: the user has logged out everywhere, has another login, password or \
                 role, or was deactivated or deleted; refresh it, or log in again if that is refused, too",
            ),
            Self::Refused(TokenError::Revoked) => (
                ErrorReason::TokenRevoked,
                "the session of the access token has ended; log in again",
            ),
            Self::Refused(TokenError::RefreshToken) => (
                ErrorReason::TokenInvalid,
                "this is a refresh token; send the access token that was issued with it",
            ),
            Self::Refused(TokenError::NotBearer) => (
                ErrorReason::TokenInvalid,
                "the metadata `authorization` must be there once, as `Bearer <access token>`",
            ),
            Self::Refused(TokenError::OtherAudience) => (
                ErrorReason::TokenInvalid,
                "the access token was issued for another service; get one with this service's name as its `audience`",
            ),
            Self::Refused(TokenError::Invalid) => (
                ErrorReason::TokenInvalid,
                "the access token is not one that this service accepts",
            ),
        };
        Err(ErrorReply::new(Code::Unauthenticated, reason, message))
    }
}

/// Returns the error for a caller whose login is older or weaker than required. Its metadata has
/// the names of RFC 9470, section 3.
pub fn step_up_required(required: StepUp) -> ErrorReply {
    let max_age = required.max_age.as_secs();
    let factors = match required.acr {
        Some(Acr::TwoFactors) => " with two factors",
        Some(Acr::OneFactor) | None => "",
    };
    let message = format!(
        "this call needs a login{factors} within the last {max_age} seconds; call Reauthenticate, and repeat the call \
         with its access token"
    );
    let reply = ErrorReply::new(Code::Unauthenticated, ErrorReason::StepUpRequired, message)
        .with_metadata("max_age", max_age.to_string());
    match required.acr {
        Some(acr) => reply.with_metadata("acr_values", acr.as_str()),
        None => reply,
    }
}

/// Interceptor that adds a [`Caller`] to every request. It refuses none itself.
#[derive(Clone, Debug)]
pub struct Authenticate {
    verifier: Verifier,
    access: AccessView,
}

impl Authenticate {
    /// Creates an interceptor that verifies tokens and asks the view whether they have been
    /// revoked.
    pub const fn new(verifier: Verifier, access: AccessView) -> Self {
        Self { verifier, access }
    }

    fn caller(&self, metadata: &MetadataMap) -> Caller {
        let mut values = metadata.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Caller::Anonymous;
        };
        // Two tokens could be those of two callers, so neither is accepted.
        let token = if values.next().is_some() {
            None
        } else {
            value.to_str().ok().and_then(bearer)
        };
        let principal = match token {
            Some("") => return Caller::Anonymous,
            Some(token) if token.starts_with(REFRESH_TOKEN_PREFIX) => Err(TokenError::RefreshToken),
            Some(token) => self.verifier.verify(token),
            None => Err(TokenError::NotBearer),
        };
        let principal = principal.and_then(|principal| self.access.check(&principal).map(|()| principal));
        match principal {
            Ok(principal) => Caller::Principal(principal),
            Err(error) => Caller::Refused(error),
        }
    }
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = self.caller(request.metadata());
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// Returns the principal of a request that the policy layer has admitted.
///
/// # Errors
///
/// UNAUTHENTICATED if the caller has no valid token. This can only happen in RPCs with the policy
/// `public`.
pub fn principal<T>(request: &Request<T>) -> Result<Arc<Principal>, Status> {
    let caller = request.extensions().get::<Caller>().unwrap_or(&Caller::Anonymous);
    caller.principal().cloned().map_err(Status::from)
}

/// Returns the token of `Bearer <token>`, or an empty text if there is none. The scheme is
/// case-insensitive (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
