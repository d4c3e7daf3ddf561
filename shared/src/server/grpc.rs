//! The gRPC server: tonic's, with every limit set that tonic leaves open.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{InterceptorLayer, Routes},
    transport::{Server, server::TcpIncoming},
};

use super::{
    Health, Listener, Running, ServerSettings, TlsError, admission,
    mount::{Mounted, RpcMount},
    rpc::RpcLayer,
    stream::StreamRules,
};
use crate::{
    authz::{Authenticate, Policies, PolicyError, PolicyLayer},
    feed::AccessView,
    token::Verifier,
};

/// Bytes of the largest message that an RPC takes. Every service is mounted with it.
pub const MAX_MESSAGE_LEN: usize = 64 * 1024;

/// Calls that one connection may have open.
const MAX_STREAMS: u32 = 128;
/// Bytes of metadata that a call may bring.
const MAX_METADATA_LEN: u32 = 16 * 1024;
/// Streams that a client may reset before they were accepted (CVE-2023-44487). tonic's `None` turns hyper's own bound off.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that a client may make us reset (CVE-2025-8671).
const MAX_LOCAL_RESETS: usize = 64;
/// A connection that is silent for this long is asked whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// And closed when it does not answer for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A service's gRPC server.
#[derive(Debug)]
pub struct GrpcServer<'a> {
    /// How it bounds its work and how it is reached.
    pub settings: &'a ServerSettings,
    /// The service's encoded descriptor set: its policies, and what reflection tells.
    pub descriptor_set: &'static [u8],
    /// Verifies access tokens.
    pub verifier: Verifier,
    /// Says which of them are good no more, and what each role holds.
    pub access: AccessView,
}

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set is not readable.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A TLS file is not readable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS files do not make sense.
    #[error("cannot use the TLS certificate and key: {0}")]
    TlsConfig(#[source] tonic::transport::Error),
    /// The descriptor set cannot be reflected.
    #[error(transparent)]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl GrpcServer<'_> {
    /// Starts to serve health and reflection, until the stop token is cancelled; then it drains. Gives the service's health,
    /// NOT_SERVING until somebody [asks](Health::spawn) for its conditions, and where to mount the RPCs when what they
    /// need is there. Until then they are UNAVAILABLE.
    pub async fn spawn(self, listener: Listener, running: &Running) -> Result<(Health, RpcMount), ServeError> {
        let policies = Arc::new(Policies::from_descriptor_set(self.descriptor_set)?);
        let health = Health::new(policies.services()).await;
        let places = admission::places(self.settings.max_concurrent_requests);

        let mut infrastructure = Routes::new(health.service());
        if self.settings.reflection {
            let sets = [self.descriptor_set, tonic_health::pb::FILE_DESCRIPTOR_SET];
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
        let layers = RpcLayer::new(
            &policies,
            places,
            self.settings.request_timeout(),
            self.settings.trusted_proxies.clone(),
            (
                admission::places(self.settings.max_concurrent_streams),
                StreamRules {
                    verifier: self.verifier.clone(),
                    access: self.access.clone(),
                    stop: running.stop_token().clone(),
                },
            ),
        );
        let server = bounded()
            .layer(layers)
            .layer(InterceptorLayer::new(Authenticate::new(
                self.verifier,
                self.access.clone(),
            )))
            .layer(PolicyLayer::new(policies, self.access));

        if let Some(connections) = listener.local {
            let incoming = ReceiverStream::new(connections).map(Ok::<_, Infallible>);
            let stop = running.stop_token().clone();
            let served =
                server
                    .clone()
                    .serve_with_incoming_shutdown(mounted.clone(), incoming, stop.clone().cancelled_owned());
            running.spawn("local grpc", drained(served, stop, running.drain()));
        }
        let server = match self.settings.tls()? {
            Some(tls) => server.tls_config(tls).map_err(ServeError::TlsConfig)?,
            None => server,
        };
        let incoming = TcpIncoming::from(listener.socket).with_nodelay(Some(true));
        let stop = running.stop_token().clone();
        let served = server.serve_with_incoming_shutdown(mounted, incoming, stop.clone().cancelled_owned());
        running.spawn("grpc", drained(served, stop, running.drain()));
        Ok((health, mount))
    }
}

fn bounded() -> Server {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_METADATA_LEN)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Ends with the server, or when the time to drain is over.
async fn drained<E>(
    served: impl Future<Output = Result<(), E>>,
    stop: CancellationToken,
    drain: Duration,
) -> Result<(), E> {
    let bound = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = served => result,
        () = bound => {
            tracing::warn!("calls were still open when the time to drain was over");
            Ok(())
        }
    }
}
