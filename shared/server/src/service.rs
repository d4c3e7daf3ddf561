//! A service from its start to its end: it answers probes at once, serves its RPCs once its
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

/// The parts of a service, beside its RPCs. The caller has bound the sockets.
#[derive(Debug)]
pub struct Service<'a, B> {
    /// How it bounds its work and how it is reached.
    pub settings: &'a ServerSettings,
    /// The encoded descriptor set: the policies of its RPCs, and what reflection tells.
    pub descriptor_set: &'static [u8],
    /// Verifies access tokens.
    pub verifier: Verifier,
    /// What is known of revocations and roles.
    pub access: AccessView,
    /// Its dependency, such as a database.
    pub backing: B,
    /// The clock that it goes by.
    pub clock: &'a Clock,
    /// The socket on which it serves gRPC.
    pub grpc: Listener,
    /// The socket on which it serves HTTP.
    pub http: Listener,
}

/// A service that answers probes, and whose RPCs are still UNAVAILABLE.
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
    /// The policies that the RPCs declare.
    pub const fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Waits until what the service depends on is available and prepares it, retrying if it becomes
    /// unavailable. Returns `None` if the service is to stop.
    pub async fn prepare<T, F: Future<Output = Result<T, StartError>>>(
        &self,
        prepare: impl Fn() -> F,
    ) -> Result<Option<T>, StartError> {
        Box::pin(when_available(&self.backing, self.running.stop_token(), prepare)).await
    }

    /// Waits until the verification keys are known, and where the service follows the access feed,
    /// revocations and roles. Returns false if the service is to stop.
    pub async fn wait_for_access(&self) -> bool {
        let loaded = self.access.wait_until_loaded();
        self.running.stop_token().run_until_cancelled(loaded).await.is_some()
    }

    /// Serves these pages on the HTTP port from now on, beside metrics and probes.
    pub fn serve_pages(&self, pages: Router) {
        self.pages.mount(pages);
    }

    /// Serves these RPCs from now on. The service is SERVING while what it depends on is available
    /// and access is known.
    pub fn serve(self, rpcs: Routes) {
        self.rpcs.mount(rpcs);
        // A service without pages has none to wait for.
        self.pages.mount(Router::new());
        let (access, backing) = (self.access, self.backing);
        let ready = move || {
            let (access, backing) = (access.clone(), backing.clone());
            async move { access.is_loaded() && backing.check().await }
        };
        self.health.spawn(ready, &self.running);
    }
}
