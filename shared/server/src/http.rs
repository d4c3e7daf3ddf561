//! HTTP port of a service: metrics for Prometheus, liveness and readiness for clients without gRPC,
//! and the pages that the service adds.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse as _,
    routing::get,
};
use base::{listen::Listener, running::Running, telemetry::metrics};
use http::Request;
use tonic::body::Body;
use tower::ServiceBuilder;

use super::{
    Health, PageMount, ServerSettings,
    serve::{ConnectionLimits, Port, Protocol},
};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Server of the HTTP port.
#[derive(Debug)]
pub struct HttpServer {
    router: Router,
}

impl HttpServer {
    /// Creates a server with `/metrics`, `/livez` (200 while the process runs) and `/readyz` (200
    /// while the service is serving, otherwise 503).
    pub fn new(health: Health) -> Self {
        let ready = move || {
            let serving = health.is_serving();
            async move {
                if serving {
                    (StatusCode::OK, "serving\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not serving\n")
                }
            }
        };
        let router = Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .route(
                "/metrics",
                get(async || ([(CONTENT_TYPE, PROMETHEUS_TEXT)], metrics::render()).into_response()),
            );
        Self { router }
    }

    /// Serves until the stop token is cancelled. Returns the mount for the pages of the service.
    pub fn spawn(self, settings: &ServerSettings, listener: Listener, running: &Running) -> PageMount {
        let mount = PageMount::default();
        let late = mount.clone();
        let router = self.router.fallback(move |request| late.clone().serve(request));
        let port = Port {
            protocol: Protocol::Http,
            limits: ConnectionLimits::new("http", settings),
            tls: None,
            idle: settings.connection_idle(),
        };
        let service = ServiceBuilder::new()
            .map_request(|request: Request<Body>| request.map(axum::body::Body::new))
            .map_response(|response: axum::response::Response| response.map(Body::new))
            .service(router);
        let served = port.serve(listener.into_parts().0, service, running.clone());
        running.spawn("http", served);
        let stop = running.stop_token().clone();
        running.spawn("metrics upkeep", async move {
            let upkeep = async {
                let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
                loop {
                    ticks.tick().await;
                    metrics::recorder().run_upkeep();
                }
            };
            stop.run_until_cancelled(upkeep).await;
            Ok::<_, Infallible>(())
        });
        mount
    }
}
