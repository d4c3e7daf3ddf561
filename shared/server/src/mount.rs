//! Mounts for RPCs and pages, which are added after the server has started. A service can answer
//! probes while it waits for its database, and serves its RPCs once the database is available.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use access::authz;
use axum::{
    Router,
    extract::Request as HttpRequest,
    http::StatusCode,
    response::{IntoResponse as _, Response as HttpResponse},
};
use base::error::ErrorReply;
use futures_util::future::Either;
use http::{Request, Response};
use proto::authz::v1::ErrorReason;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::{Service, ServiceExt as _};

use super::message::TooLarge;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Mount on which a service puts its RPCs, once.
#[derive(Clone, Debug, Default)]
pub struct RpcMount(Arc<OnceLock<Routes>>);

/// Mount on which a service puts its pages on the HTTP port, once.
#[derive(Clone, Debug, Default)]
pub struct PageMount(Arc<OnceLock<Router>>);

impl RpcMount {
    /// Serves these from now on. Only the first call has an effect.
    pub fn mount(&self, routes: Routes) {
        let _ = self.0.set(routes.prepare());
    }
}

impl PageMount {
    /// Serves these from now on. Only the first call has an effect.
    pub fn mount(&self, router: Router) {
        let _ = self.0.set(router);
    }

    pub(super) async fn serve(self, request: HttpRequest) -> HttpResponse {
        match self.0.get().cloned() {
            Some(router) => router.oneshot(request).await.into_response(),
            None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        }
    }
}

/// Router that serves health and reflection at once, and the RPCs once they are mounted.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) infrastructure: Routes,
    pub(super) rpcs: RpcMount,
}

impl Service<Request<Body>> for Mounted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<<Routes as Service<Request<Body>>>::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if authz::is_infrastructure(request.uri().path()) {
            return Either::Left(self.infrastructure.call(request));
        }
        if let Some(routes) = self.rpcs.0.get() {
            if let Some(too_large) = request.extensions().get::<TooLarge>() {
                return Either::Right(ready(Ok(Status::from(too_large.reply()).into_http())));
            }
            return Either::Left(routes.clone().call(request));
        }
        let starting = ErrorReply::new(
            Code::Unavailable,
            ErrorReason::Starting,
            "the server is starting; try again in a moment",
        );
        Either::Right(ready(Ok(
            Status::from(starting.with_retry_about(RETRY_AFTER)).into_http()
        )))
    }
}
