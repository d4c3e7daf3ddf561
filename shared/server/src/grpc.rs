//! gRPC server of a service: its RPCs, health and reflection, behind the layers that every call
//! passes.

use std::sync::Arc;

use access::{
    authz::{Authenticate, PolicyLayer},
    policy::{Policies, PolicyError},
    token::Verifier,
    view::AccessView,
};
use base::{listen::Listener, running::Running};
use tonic::service::{InterceptorLayer, Routes};
use tower::ServiceBuilder;

use super::{
    Health, ServerSettings, TlsError,
    concurrency::ConcurrencyLayer,
    invalid::InvalidCallsLayer,
    message::MAX_MESSAGE_LEN,
    mount::{Mounted, RpcMount},
    rpc::RpcLayer,
    serve::{ConnectionLimits, Port, Protocol, serve_local},
    stream::StreamRules,
};

/// gRPC server of a service.
#[derive(Debug)]
pub struct GrpcServer<'a> {
    /// Limits and connection settings.
    pub settings: &'a ServerSettings,
    /// Encoded descriptor set of the service, which contains its policies and is served by
    /// reflection.
    pub descriptor_set: &'static [u8],
    /// Verifier of access tokens.
    pub verifier: Verifier,
    /// View of current revocations and of the permissions that each role holds.
    pub access: AccessView,
}

/// Reason why the server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set is not readable.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A TLS file is not readable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The descriptor set cannot be reflected.
    #[error(transparent)]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl GrpcServer<'_> {
    /// Starts to serve health and reflection. When the stop token is cancelled, the server drains.
    ///
    /// Returns the health of the service and the mount for its RPCs. The health is NOT_SERVING
    /// until [`Health::spawn`] is called. The RPCs are UNAVAILABLE until the service mounts them,
    /// once their dependencies are available.
    pub async fn spawn(self, listener: Listener, running: &Running) -> Result<(Health, RpcMount), ServeError> {
        let policies = Arc::new(Policies::from_descriptor_set(self.descriptor_set)?);
        let health = Health::new(policies.services()).await;

        let mut infrastructure = Routes::new(health.service());
        if self.settings.reflection {
            let sets = [
                self.descriptor_set,
                proto::COMMON_FILE_DESCRIPTOR_SET,
                tonic_health::pb::FILE_DESCRIPTOR_SET,
            ];
            let reflection = || {
                let builder = tonic_reflection::server::Builder::configure();
                sets.iter().fold(builder, |builder, set| {
                    builder.register_encoded_file_descriptor_set(set)
                })
            };
            infrastructure = infrastructure
                .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_MESSAGE_LEN));
        }
        let mount = RpcMount::default();
        let mounted = Mounted {
            infrastructure: infrastructure.prepare(),
            rpcs: mount.clone(),
        };
        let streams = StreamRules {
            verifier: self.verifier.clone(),
            access: self.access.clone(),
            stop: running.stop_token().clone(),
        };
        let service = ServiceBuilder::new()
            .layer(RpcLayer::new(&policies, self.settings, streams, running))
            .layer(InterceptorLayer::new(Authenticate::new(
                self.verifier,
                self.access.clone(),
            )))
            .layer(ConcurrencyLayer::new(self.settings))
            .layer(InvalidCallsLayer::new(self.settings.invalid_calls_per_minute))
            .layer(PolicyLayer::new(policies, self.access))
            .service(mounted);
        let port = Port {
            protocol: Protocol::Grpc,
            limits: ConnectionLimits::new("grpc", self.settings),
            tls: self.settings.tls()?,
            idle: self.settings.connection_idle(),
        };
        let (socket, local) = listener.into_parts();
        if let Some(connections) = local {
            let served = serve_local(connections, service.clone(), port.idle, running.clone());
            running.spawn("local grpc", served);
        }
        let served = port.serve(socket, service, running.clone());
        running.spawn("grpc", served);
        Ok((health, mount))
    }
}
