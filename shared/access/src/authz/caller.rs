//! Who calls: what the interceptor makes of the metadata `authorization` (RFC 6750).

use std::{sync::Arc, time::Duration};

use base::error::ErrorReply;
use proto::authz::v1::ErrorReason;
use tonic::{Code, Request, Status, metadata::MetadataMap, service::Interceptor};

use crate::{
    token::{Principal, TokenError, Verifier},
    view::AccessView,
};

const AUTHORIZATION: &str = "authorization";

/// Who calls. Every request that went through [`Authenticate`] has one in its extensions.
#[derive(Clone, Debug)]
pub enum Caller {
    /// No token was sent.
    Anonymous,
    /// A good token was sent.
    Principal(Arc<Principal>),
    /// A token was sent that is not good.
    Refused(TokenError),
}

impl Caller {
    /// The principal, or why there is none.
    pub fn principal(&self) -> Result<&Arc<Principal>, ErrorReply> {
        let (reason, message) = match self {
            Self::Principal(principal) => return Ok(principal),
            Self::Anonymous => (
                ErrorReason::TokenMissing,
                "sign in first: this call needs `authorization: Bearer <access token>`",
            ),
            Self::Refused(TokenError::Expired) => {
                (ErrorReason::TokenExpired, "the access token has expired; refresh it")
            }
            Self::Refused(TokenError::NotYetValid(early)) => {
                // Later by a second at most, and not before its time.
                let wait = Duration::from_secs(early.as_secs() + 1);
                return Err(ErrorReply::new(
                    Code::Unauthenticated,
                    ErrorReason::TokenNotYetValid,
                    "the access token is from the future by this server's clock; try again later with the same token",
                )
                .with_retry_after(wait));
            }
            Self::Refused(TokenError::Stale) => (
                ErrorReason::TokenStale,
                "the user has changed since the access token was issued; refresh it",
            ),
            Self::Refused(TokenError::Revoked) => (
                ErrorReason::TokenRevoked,
                "the session of the access token has ended; log in again",
            ),
            Self::Refused(TokenError::Invalid) => (
                ErrorReason::TokenInvalid,
                "the access token is not one that this service accepts",
            ),
        };
        Err(ErrorReply::new(Code::Unauthenticated, reason, message))
    }
}

/// Leaves a [`Caller`] in every request, and refuses none.
#[derive(Clone, Debug)]
pub struct Authenticate {
    verifier: Verifier,
    access: AccessView,
}

impl Authenticate {
    /// Verifies with this verifier, and asks the view whether the token is still good.
    pub const fn new(verifier: Verifier, access: AccessView) -> Self {
        Self { verifier, access }
    }

    fn caller(&self, metadata: &MetadataMap) -> Caller {
        let mut values = metadata.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Caller::Anonymous;
        };
        // Two tokens are two callers; which one the client meant is not ours to guess.
        let token = if values.next().is_some() {
            None
        } else {
            value.to_str().ok().and_then(bearer)
        };
        let principal = token
            .ok_or(TokenError::Invalid)
            .and_then(|token| self.verifier.verify(token))
            .and_then(|principal| self.access.check(&principal).map(|()| principal));
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

/// The principal of a request that the policy layer let through.
///
/// # Errors
///
/// UNAUTHENTICATED where the caller has no good token, which an RPC with any policy but `public` never sees.
pub fn principal<T>(request: &Request<T>) -> Result<Arc<Principal>, Status> {
    let caller = request.extensions().get::<Caller>().unwrap_or(&Caller::Anonymous);
    caller.principal().cloned().map_err(Status::from)
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
