//! Life of a service from start to end: it answers probes at once, serves its RPCs once its
//! dependencies are available, and shuts down gracefully.

use access::{policy::Policies, token::Verifier, view::AccessView};
use axum::Router;
use base::{
    StartError,
    backing::{Backing, when_available},
    clock::Clock,
    listen::Listener,
    running::Running,
};
use tonic::service::Routes;

use super::{GrpcServer, Health, HttpServer, PageMount, RpcMount, ServerSettings};

/// Parts of a service, except for its RPCs. The caller has already bound the sockets.
#[derive(Debug)]
pub struct Service<'a, B> {
    /// Limits and connection settings.
    pub settings: &'a ServerSettings,
    /// Encoded descriptor set, which contains the policies of the RPCs and is served by reflection.
    pub descriptor_set: &'static [u8],
    /// Verifier of access tokens.
    pub verifier: Verifier,
    /// View of current revocations and roles.
    pub access: AccessView,
    /// Dependency of the service, such as a database.
    pub backing: B,
    /// Clock of the service.
    pub clock: &'a Clock,
    /// Socket on which the service serves gRPC.
    pub grpc: Listener,
    /// Socket on which the service serves HTTP.
    pub http: Listener,
}

/// Service that answers probes, but whose RPCs are still UNAVAILABLE.
pub struct Starting<B> {
    access: AccessView,
    policies: Policies,
    backing: B,
    health: Health,
    rpcs: RpcMount,
    pages: PageMount,
    running: Running,
}

impl<B: Backing> Service<'_, B> {
    /// Starts to serve health, reflection and metrics, until the stop token of `running` is
    /// cancelled.
    ///
    /// # Errors
    ///
    /// Fails if a setting or the descriptor set cannot be used.
    pub async fn start(self, running: &Running) -> Result<Starting<B>, StartError> {
        let policies = Policies::from_descriptor_set(self.descriptor_set).map_err(StartError::failed)?;
        let server = GrpcServer {
            settings: self.settings,
            descriptor_set: self.descriptor_set,
            verifier: self.verifier,
            access: self.access.clone(),
        };
        let (health, rpcs) = server.spawn(self.grpc, running).await.map_err(StartError::setting)?;
        let pages = HttpServer::new(health.clone()).spawn(self.settings, self.http, running);
        self.backing.report(self.clock, running);
        Ok(Starting {
            access: self.access,
            policies,
            backing: self.backing,
            health,
            rpcs,
            pages,
            running: running.clone(),
        })
    }
}

impl<B: Backing> Starting<B> {
    /// Returns the policies that the RPCs declare.
    pub const fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Waits until the dependency of the service is available and then prepares it. Retries if it
    /// becomes unavailable. Returns `None` if the service must stop.
    pub async fn prepare<T, F: Future<Output = Result<T, StartError>>>(
        &self,
        prepare: impl Fn() -> F,
    ) -> Result<Option<T>, StartError> {
        Box::pin(when_available(&self.backing, self.running.stop_token(), prepare)).await
    }

    /// Waits until the verification keys are loaded and, if the service follows the access feed,
    /// the revocations and roles. Returns `false` if the service must stop.
    pub async fn wait_for_access(&self) -> bool {
        let loaded = self.access.wait_until_loaded();
        self.running.stop_token().run_until_cancelled(loaded).await.is_some()
    }

    /// Serves these pages on the HTTP port from now on, besides metrics and probes.
    pub fn serve_pages(&self, pages: Router) {
        self.pages.mount(pages);
    }

    /// Serves these RPCs from now on. The service is SERVING while its dependency is available and
    /// the access view is loaded.
    pub fn serve(self, rpcs: Routes) {
        self.rpcs.mount(rpcs);
        // A service without pages answers 404 from now on, instead of "starting". This has no
        // effect if pages are mounted already.
        self.pages.mount(Router::new());
        let (access, backing) = (self.access, self.backing);
        let missing = move || {
            let (access, backing) = (access.clone(), backing.clone());
            async move {
                if !access.is_loaded() {
                    Some("there are no keys that verify access tokens")
                } else if !backing.check().await {
                    Some("a dependency, such as the database, cannot be used")
                } else {
                    None
                }
            }
        };
        self.health.spawn(missing, &self.running);
    }
}
