//! Limits on the open connections of a port, in total and for each client address.

use std::net::SocketAddr;

use base::{
    concurrency_limit::ConcurrencyLimit,
    shares::{Share, Shares},
    telemetry::metrics::InFlight,
};
use ipnet::IpNet;
use metrics::Gauge;
use tokio::sync::OwnedSemaphorePermit;

use crate::{ServerSettings, network::network_of};

/// Gauge of open connections.
const OPEN: &str = "server_connections_open";
/// Counter of connections that were closed at once because of a limit.
const REFUSED: &str = "server_connections_refused_total";

/// Connection limits of one port.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    port: &'static str,
    total: ConcurrencyLimit,
    by_address: Shares<IpNet>,
    trusted: Vec<IpNet>,
    open: Gauge,
}

/// Admission of a connection, which counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    _total: Option<OwnedSemaphorePermit>,
    _share: Option<Share<IpNet>>,
    _open: InFlight,
}

impl ConnectionLimits {
    /// Creates the limits. `port` is the label of their metrics: `grpc` or `http`.
    pub(crate) fn new(port: &'static str, settings: &ServerSettings) -> Self {
        metrics::describe_gauge!(OPEN, "Number of open connections, by `port` (grpc or http).");
        metrics::describe_counter!(
            REFUSED,
            "Number of connections that were closed at once, by `port` (grpc or http) and `reason`: too many in total \
             (total), too many from one client address (address), or no file descriptor left (descriptors)."
        );
        metrics::counter!(REFUSED, "port" => port, "reason" => "total").increment(0);
        Self {
            port,
            total: ConcurrencyLimit::new(settings.max_connections, 1),
            by_address: Shares::new(settings.max_connections_per_address),
            trusted: settings.trusted_proxies.clone(),
            open: metrics::gauge!(OPEN, "port" => port),
        }
    }

    /// Admits one more connection of this client, or returns `None` if there are too many. Trusted
    /// proxies and this machine are never refused, because they may serve many clients.
    pub(super) fn admit(&self, peer: SocketAddr) -> Option<Admitted> {
        let address = peer.ip().to_canonical();
        let is_exempt = address.is_loopback() || self.trusted.iter().any(|net| net.contains(&address));
        let (mut total, mut share) = (None, None);
        if !is_exempt {
            total = Some(self.total.take().map_err(|_wait| self.refused("total")).ok()?);
            let network = network_of(address);
            share = Some(
                self.by_address
                    .take(network)
                    .ok_or_else(|| self.refused("address"))
                    .ok()?,
            );
        }
        Some(Admitted {
            _total: total,
            _share: share,
            _open: InFlight::new(self.open.clone()),
        })
    }

    /// Returns the network of a client, or `None` for a trusted proxy.
    pub(super) fn client_of(&self, peer: SocketAddr) -> Option<IpNet> {
        let address = peer.ip().to_canonical();
        let is_proxy = self.trusted.iter().any(|net| net.contains(&address));
        (!is_proxy).then(|| network_of(address))
    }

    /// Counts a connection that was closed at once.
    pub(super) fn refused(&self, reason: &'static str) {
        metrics::counter!(REFUSED, "port" => self.port, "reason" => reason).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ConnectionLimits {
        let settings = ServerSettings {
            max_connections: 3,
            max_connections_per_address: 2,
            trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
            ..ServerSettings::default()
        };
        ConnectionLimits::new("test", &settings)
    }

    #[test]
    fn connections_are_limited_in_total_and_per_address() {
        let limits = limits();
        let admit = |address: &str| limits.admit(SocketAddr::new(address.parse().expect("an address"), 1));
        let _first = admit("2001:db8:0:1::1").expect("the first");
        let second = admit("2001:db8:0:1:ffff::1").expect("the second of a /64");
        assert!(admit("2001:db8:0:1::3").is_none(), "a third of the same /64");
        let _third = admit("192.0.2.1").expect("another address");
        assert!(admit("192.0.2.2").is_none(), "a fourth in all");
        drop(second);
        assert!(admit("192.0.2.2").is_some(), "room again");
    }

    #[test]
    fn trusted_proxies_and_this_machine_are_never_refused() {
        let limits = limits();
        for address in ["10.1.2.3", "127.0.0.1", "::1", "::ffff:10.1.2.3"] {
            let peer = SocketAddr::new(address.parse().expect("an address"), 1);
            let all: Vec<_> = (0..10).map(|_| limits.admit(peer)).collect();
            assert!(all.iter().all(Option::is_some), "{address}");
        }
    }
}
