//! A TCP address that forwards to one server and can later be moved to another, as in a fail-over.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// An address that forwards to one server at a time.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    cuts: watch::Sender<()>,
    accepted: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl Endpoint {
    /// Opens an address on a free port that forwards to this server.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (target, targets) = watch::channel(target);
        let (cuts, cut) = watch::channel(());
        let (count, accepted) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.expect("a connection");
                count.send_modify(|count| *count += 1);
                let target = *targets.borrow();
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let carry = async {
                        // If nothing listens at the target, the client's connection is closed.
                        if let Ok(mut server) = TcpStream::connect(target).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        }
                    };
                    tokio::select! {
                        () = carry => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            target,
            cuts,
            accepted,
            accepting,
        }
    }

    /// Returns the address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards new connections to another server. Open connections stay with the old one.
    pub fn move_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Cuts all open connections.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Waits until `more` further connections have been accepted.
    pub async fn accepts(&self, more: usize) {
        let mut accepted = self.accepted.clone();
        let wanted = *accepted.borrow() + more;
        let reached = accepted.wait_for(|count| *count >= wanted).await;
        reached.expect("it accepts for as long as it lives");
    }

    /// Returns the URL of a PostgreSQL database that is reached through this address.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
