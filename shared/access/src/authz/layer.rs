//! Authorization of incoming calls by the policies of their RPCs.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base::error::ErrorReply;
use futures_util::future::Either;
use http::{Request, Response};
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Span;

use super::{Caller, StreamCaller, caller::step_up_required};
use crate::{
    policy::{Permission, Policies, Policy, StepUp},
    token::Principal,
    view::AccessView,
};

/// Infrastructure services, which every caller may use. Their protos cannot declare policies, so
/// they are exempt by name.
pub const INFRASTRUCTURE: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Suggested wait before a retry while the server lacks keys or news of revocations.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Counter of calls that were refused because the access feed was silent.
const REFUSED: &str = "access_feed_refused_calls_total";

/// Returns whether the path belongs to the health or reflection service, which are exempt from
/// policies.
pub fn is_infrastructure(path: &str) -> bool {
    INFRASTRUCTURE.iter().any(|service| path.starts_with(service))
}

/// Layer that wraps a service in a [`PolicyService`].
#[derive(Clone, Debug)]
pub struct PolicyLayer {
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    policies: Arc<Policies>,
    access: AccessView,
}

impl PolicyLayer {
    /// Creates a layer that decides by these policies and by the permissions of each role in the
    /// view.
    pub fn new(policies: Arc<Policies>, access: AccessView) -> Self {
        metrics::describe_counter!(
            REFUSED,
            "Number of calls that were refused because the access feed had been silent for too long."
        );
        metrics::counter!(REFUSED).increment(0);
        Self {
            rules: Arc::new(Rules { policies, access }),
        }
    }
}

impl<S> Layer<S> for PolicyLayer {
    type Service = PolicyService<S>;

    fn layer(&self, inner: S) -> PolicyService<S> {
        PolicyService {
            rules: Arc::clone(&self.rules),
            inner,
        }
    }
}

/// Service that refuses every call that the policy of its RPC does not allow.
#[derive(Clone, Debug)]
pub struct PolicyService<S> {
    rules: Arc<Rules>,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PolicyService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error = Infallible>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().unwrap_or(&Caller::Anonymous);
        if let Caller::Principal(principal) = caller {
            Span::current().record("user_id", tracing::field::display(principal.user_id()));
            if let Some(stream) = request.extensions().get::<StreamCaller>() {
                let permission = match self.rules.policies.get(request.uri().path()) {
                    Some(Policy::Permission(permission)) => Some(permission),
                    _ => None,
                };
                stream.set(principal, permission);
            }
        }
        match self.rules.decide(request.uri().path(), caller) {
            Ok(unmet) => {
                if let Some(required) = unmet {
                    request.extensions_mut().insert(Caller::StepUpRequired(required));
                }
                Either::Left(self.inner.call(request))
            }
            Err(reply) => Either::Right(ready(Ok(Status::from(reply).into_http()))),
        }
    }
}

impl Rules {
    /// Decides whether the call is admitted. A public RPC admits every caller, but must not go by a
    /// token whose login is not as recent and as strong as it requires: then this returns what it
    /// requires.
    fn decide(&self, path: &str, caller: &Caller) -> Result<Option<StepUp>, ErrorReply> {
        if is_infrastructure(path) {
            return Ok(None);
        }
        match self.policies.get(path) {
            Some(Policy::Public) => Ok(match caller {
                Caller::Principal(principal) => self.unmet(path, principal),
                _ => None,
            }),
            Some(Policy::Authenticated) => {
                let principal = self.authenticated(path, caller)?;
                self.ensure_step_up(path, principal)
            }
            Some(Policy::Permission(permission)) => {
                let principal = self.authenticated(path, caller)?;
                if !self.access.allow(principal, permission) {
                    return Err(permission_denied(permission));
                }
                self.ensure_step_up(path, principal)
            }
            Some(Policy::Missing) => Err(ErrorReply::new(
                Code::PermissionDenied,
                ErrorReason::PolicyMissing,
                "this RPC declares no access policy, so nobody can call it",
            )),
            // Unknown paths are not passed on, so that nothing without a policy is ever served.
            None => Err(ErrorReply::new(
                Code::Unimplemented,
                ErrorReason::MethodUnknown,
                "this server has no such RPC",
            )),
        }
    }

    /// Returns the principal of the caller.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the server has not loaded its keys and revocations yet, or if the access feed
    /// has been silent for too long to admit this RPC. UNAUTHENTICATED if the caller has no valid
    /// token, or if the RPC requires a token for this service only and the caller's token is not
    /// one.
    fn authenticated<'a>(&self, path: &str, caller: &'a Caller) -> Result<&'a Principal, ErrorReply> {
        let sends_token = !matches!(caller, Caller::Anonymous);
        if sends_token && !self.access.is_loaded() {
            // Without keys every token would look invalid.
            let message =
                "the server is starting and does not have its keys, revocations and roles yet; try again in a moment";
            let reply = ErrorReply::new(Code::Unavailable, ErrorReason::Starting, message);
            return Err(reply.with_retry_about(RETRY_AFTER));
        }
        let principal = caller.principal()?;
        if self.policies.wants_exact_audience(path)
            && let Some(audience) = principal.wanted_audience()
        {
            return Err(audience_required(audience));
        }
        if self.access.refuses_in_silence(self.policies.is_read(path)) {
            metrics::counter!(REFUSED).increment(1);
            let message = "the server receives no news of logouts and role changes at the moment, so it refuses \
                changes; try again in a moment";
            let reply = ErrorReply::new(Code::Unavailable, ErrorReason::AccessFeedSilent, message);
            return Err(reply.with_retry_about(RETRY_AFTER));
        }
        Ok(principal)
    }

    /// Refuses a caller whose login is not as recent and as strong as the RPC requires. This comes
    /// last, because a new login does not help a caller who is refused for another reason.
    fn ensure_step_up(&self, path: &str, principal: &Principal) -> Result<Option<StepUp>, ErrorReply> {
        match self.unmet(path, principal) {
            Some(required) => Err(step_up_required(required)),
            None => Ok(None),
        }
    }

    /// Returns what the RPC requires of a login, if that of the principal does not meet it.
    fn unmet(&self, path: &str, principal: &Principal) -> Option<StepUp> {
        let required = self.policies.step_up(path)?;
        (!self.access.meets(principal, required)).then_some(required)
    }
}

/// Returns the error for a token that is not only for this service. `audience` is the name of this
/// service.
pub fn audience_required(audience: &str) -> ErrorReply {
    let message = format!(
        "this call needs an access token for {audience} only; call RefreshAccessToken with the `audience` {audience}"
    );
    ErrorReply::new(Code::Unauthenticated, ErrorReason::AudienceRequired, message).with_metadata("audience", audience)
}

/// Returns the error for a caller who lacks this permission.
pub fn permission_denied(permission: &Permission) -> ErrorReply {
    let message = format!("this call needs the permission {permission}");
    ErrorReply::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message)
        .with_metadata("permission", permission.to_string())
}

#[cfg(test)]
mod tests {
    use base::{
        clock::{Clock, Timestamp},
        ids::UserId,
    };
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use proto::auth::v1::{FILE_DESCRIPTOR_SET, WatchResponse};

    use super::*;
    use crate::{
        policy::Grants,
        testing::tokens::TokenMint,
        token::KeySet,
        view::{AccessView, Epoch},
    };

    const UNARY: &str = "/auth.v1.AccountService/GetMe";
    const STREAM: &str = "/auth.v1.AccessFeedService/Watch";

    fn superuser() -> Caller {
        let mint = TokenMint::fixed(1);
        let now = Timestamp::from_micros(1_795_219_200_000_000);
        let token = mint.sign(&mint.claims_for(UserId::generate(), "root", &["superuser"], now));
        let (clock, _hand) = Clock::manual(now);
        Caller::Principal(mint.verifier(clock).verify(&token).expect("a good token"))
    }

    fn following() -> AccessView {
        let view = AccessView::following(TokenMint::fixed(1).key_set(), Clock::system());
        let snapshot = WatchResponse {
            epoch: Epoch::generate().to_string(),
            is_snapshot: true,
            is_caught_up: true,
            ..WatchResponse::default()
        };
        assert_eq!(view.intake().apply(snapshot), Ok(true));
        view
    }

    fn decide(policies: Policies, access: AccessView, path: &str, caller: &Caller) -> Result<(), &'static str> {
        let policies = Arc::new(policies);
        let decided = Rules { policies, access }.decide(path, caller);
        decided.map(drop).map_err(|reply| reply.reason())
    }

    fn declared() -> Policies {
        Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("readable")
    }

    #[test]
    fn an_rpc_without_a_policy_is_refused_to_every_caller() {
        // Decoding into the types of `prost_types` drops extensions, and the policies with them.
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let set = set.encode_to_vec();
        let undeclared = || Policies::from_descriptor_set(&set).expect("readable");
        for path in [UNARY, STREAM, "/auth.v1.AuthService/Login"] {
            for caller in [superuser(), Caller::Anonymous] {
                let refused = decide(undeclared(), following(), path, &caller);
                assert_eq!(refused, Err("POLICY_MISSING"), "{path}");
            }
        }
        assert_eq!(decide(declared(), following(), UNARY, &superuser()), Ok(()));
        assert_eq!(decide(declared(), following(), STREAM, &superuser()), Ok(()));
    }

    #[test]
    fn calls_with_a_token_are_refused_as_starting_before_the_first_snapshot() {
        let starting = || AccessView::following(KeySet::empty(), Clock::system());
        for path in [UNARY, STREAM] {
            for caller in [superuser(), Caller::Refused(crate::token::TokenError::Invalid)] {
                assert_eq!(decide(declared(), starting(), path, &caller), Err("STARTING"));
            }
            assert_eq!(
                decide(declared(), starting(), path, &Caller::Anonymous),
                Err("TOKEN_MISSING")
            );
        }
        let public = "/auth.v1.AuthService/Login";
        assert_eq!(decide(declared(), starting(), public, &superuser()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_feed_is_silent_only_writes_are_refused() {
        let view = following();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let decide = |path| decide(declared(), view.clone(), path, &superuser());
        assert_eq!(decide("/auth.v1.UserService/DeactivateUser"), Err("ACCESS_FEED_SILENT"));
        assert_eq!(decide("/auth.v1.AccountService/UpdateMe"), Err("ACCESS_FEED_SILENT"));
        assert_eq!(decide(UNARY), Ok(()));
        assert_eq!(decide("/auth.v1.RbacService/CheckPermission"), Ok(()));
        assert_eq!(decide("/auth.v1.AuthService/Login"), Ok(()));
    }

    #[test]
    fn only_rpcs_that_require_a_recent_login_refuse_an_old_one() {
        let mint = TokenMint::fixed(1);
        let now = Timestamp::from_micros(1_795_219_200_000_000);
        let (clock, hand) = Clock::manual(now);
        let verifier = mint.verifier(clock.clone());
        let access = AccessView::offline(mint.key_set(), Grants::default(), clock);
        let rules = Rules {
            policies: Arc::new(declared()),
            access,
        };
        let token = mint.sign(&mint.claims_for(UserId::generate(), "root", &["superuser"], now));
        let caller = Caller::Principal(verifier.verify(&token).expect("a good token"));
        let decide = |path| rules.decide(path, &caller).map_err(|reply| reply.reason());
        let required = StepUp {
            max_age: Duration::from_mins(15),
            acr: None,
        };
        let (write, public) = (
            "/auth.v1.UserService/DeactivateUser",
            "/auth.v1.AccountService/ChangeEmail",
        );
        for path in [write, public, UNARY] {
            assert_eq!(decide(path), Ok(None), "{path}");
        }
        hand.advance(Duration::from_secs(931));
        assert_eq!(decide(write), Err("STEP_UP_REQUIRED"));
        // Only the RPC knows whether it goes by the token.
        assert_eq!(decide(public), Ok(Some(required)));
        for path in [UNARY, "/auth.v1.UserService/ListUsers", "/auth.v1.AuthService/Login"] {
            assert_eq!(decide(path), Ok(None), "{path}");
        }
        // A caller without the permission is not sent to log in again for nothing.
        let token = mint.sign(&mint.claims_for(UserId::generate(), "ann", &["player"], now));
        let player = Caller::Principal(verifier.verify(&token).expect("a good token"));
        let refused = rules.decide(write, &player).map_err(|reply| reply.reason());
        assert_eq!(refused, Err("PERMISSION_DENIED"));
    }
}
