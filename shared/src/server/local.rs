//! A way into a gRPC server for its own process: memory instead of a socket, without TLS, whatever the settings of the port are.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::{Channel, Endpoint};

/// Bytes in flight in each direction.
const BUFFER: usize = 64 * 1024;
/// Connections that wait to be taken.
const WAITING: usize = 16;

/// Connections from within the process, on the server's side.
pub(crate) type LocalConnections = mpsc::Receiver<DuplexStream>;

/// Connects to a gRPC server in the same process.
#[derive(Clone, Debug)]
pub struct LocalConnector {
    server: mpsc::Sender<DuplexStream>,
}

impl LocalConnector {
    pub(crate) fn new() -> (Self, LocalConnections) {
        let (server, connections) = mpsc::channel(WAITING);
        (Self { server }, connections)
    }

    /// A channel that connects when it is first used, and again whenever the connection has ended.
    pub fn channel(&self) -> Channel {
        let server = self.server.clone();
        let connect = move |_: Uri| {
            let server = server.clone();
            async move {
                let (client, connection) = tokio::io::duplex(BUFFER);
                let taken = server.send(connection).await;
                taken.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                Ok::<_, io::Error>(TokioIo::new(client))
            }
        };
        // The address is not looked up; HTTP/2 wants one.
        Endpoint::from_static("http://local").connect_with_connector_lazy(tower::service_fn(connect))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio_util::sync::CancellationToken;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use crate::{
        authz::Grants,
        clock::Clock,
        feed::AccessView,
        proto::game::v1::FILE_DESCRIPTOR_SET,
        server::{GrpcServer, Running, ServerSettings},
        testing::{
            rpc::{channel, listener},
            tokens::TokenMint,
        },
        token::KeySet,
    };

    #[tokio::test]
    async fn the_process_itself_needs_no_tls_and_no_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            Some(path)
        };
        let settings = ServerSettings {
            tls_cert_file: write("cert.pem", certified.cert.pem()),
            tls_key_file: write("key.pem", certified.signing_key.serialize_pem()),
            tls_client_ca_file: write("ca.pem", certified.cert.pem()),
            ..ServerSettings::default()
        };
        let (listener, local) = listener().await.with_local();
        let port = channel(listener.address());
        let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
        let server = GrpcServer {
            settings: &settings,
            descriptor_set: FILE_DESCRIPTOR_SET,
            verifier: TokenMint::fixed(1).verifier(Clock::system()),
            access: AccessView::offline(KeySet::empty(), Grants::default()),
        };
        server.spawn(listener, &running).await.unwrap();

        let check = async |channel| HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        let channel = local.channel();
        check(channel.clone()).await.unwrap();
        check(local.channel()).await.unwrap();
        check(port).await.unwrap_err();
        running.stop().await.unwrap();
        check(channel).await.unwrap_err();
    }
}
