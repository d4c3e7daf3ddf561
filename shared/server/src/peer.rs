//! Origin of a call.
//!
//! Anyone can write `X-Forwarded-For`, so only the part that trusted proxies have written counts.
//! Each hop appends the address that it saw. The list is therefore read from the right, up to the
//! first address that is not a trusted proxy.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, Request};
use ipnet::IpNet;

use super::{network::network_of, serve::Connection};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Addresses of a call. They are in the extensions of every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress {
    client: Option<IpAddr>,
    peer: Option<IpAddr>,
}

impl ClientAddress {
    pub(super) fn of<B>(request: &Request<B>, trusted: &[IpNet]) -> Self {
        let peer = request
            .extensions()
            .get()
            .and_then(|connection: &Connection| connection.peer);
        let peer = peer.map(|address| plain(address.ip()));
        Self {
            client: peer.map(|peer| client(peer, request.headers(), trusted)),
            peer,
        }
    }

    /// Returns the address of the client, as far as it can be trusted. `None` for a call from
    /// within the process.
    pub const fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Returns the address of the other end of the connection. `None` for a call from within the
    /// process.
    pub const fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Returns the network that counts as one client: a single IPv4 address, or the /64 network of
    /// an IPv6 address. An IPv6 address from a NAT64 gateway counts as the IPv4 address inside it.
    pub fn bucket(&self) -> Option<IpNet> {
        self.client.map(network_of)
    }
}

fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let mut hops = values
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer;
    while is_trusted(&client) {
        // A trusted proxy would not have written an entry that is not an address.
        let Some(hop) = hops.next().and_then(hop) else { break };
        client = hop;
    }
    client
}

/// Parses an address, optionally with a port or in brackets.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    let bracketed = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6)
    };
    address.ok().or_else(bracketed).map(plain)
}

/// Converts an IPv4-mapped IPv6 address to the IPv4 address (RFC 4291, section 2.5.5.2).
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(peer: &str, forwarded: &[&str], trusted: &str) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().expect("a header value"));
        }
        let trusted: Vec<IpNet> = trusted
            .split_whitespace()
            .map(|net| net.parse().expect("a network"))
            .collect();
        client(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn only_addresses_written_by_trusted_proxies_are_believed() {
        for (peer, forwarded, trusted, client) in [
            ("9.9.9.9", ["1.1.1.1"].as_slice(), "", "9.9.9.9"),
            ("9.9.9.9", &["1.1.1.1"], "10.0.0.0/8", "9.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.0/8", "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], "10.0.0.0/8", "1.1.1.1"),
            // The client wrote the first entry, and the proxy the second.
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "10.0.0.0/8", "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1"], "10.0.0.0/8", "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], "10.0.0.0/8", "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1, nonsense"], "10.0.0.0/8", "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1:443"], "10.0.0.0/8", "1.1.1.1"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "10.0.0.0/8", "2001:db8::1"),
            ("10.0.0.1", &["::ffff:1.1.1.1"], "10.0.0.0/8", "1.1.1.1"),
            ("fd00::1", &["2001:db8::1"], "fd00::/8", "2001:db8::1"),
        ] {
            assert_eq!(
                derived(peer, forwarded, trusted),
                client,
                "{peer} {forwarded:?} {trusted}"
            );
        }
    }

    #[test]
    fn an_ipv6_64_counts_as_one_client() {
        let bucket = |address: &str| {
            let client = Some(address.parse().expect("an address"));
            ClientAddress { client, peer: client }
                .bucket()
                .expect("one")
                .to_string()
        };
        assert_eq!(bucket("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(bucket("192.0.2.7"), "192.0.2.7/32");
    }

    #[test]
    fn behind_nat64_the_ipv4_address_is_the_client() {
        let bucket = |address: &str| {
            let client = Some(address.parse().expect("an address"));
            ClientAddress { client, peer: client }
                .bucket()
                .expect("one")
                .to_string()
        };
        assert_eq!(bucket("64:ff9b::192.0.2.7"), "192.0.2.7/32");
        assert_eq!(bucket("64:ff9b::c000:208"), "192.0.2.8/32");
        // Other prefixes may contain anything.
        assert_eq!(bucket("64:ff9b:1::c000:207"), "64:ff9b:1::/64");
        assert_eq!(bucket("64:ff9b::1:c000:207"), "64:ff9b::/64");
        // The address is no more trusted than any other.
        assert_eq!(
            derived("64:ff9b::10.0.0.1", &["1.1.1.1"], "10.0.0.0/8"),
            "64:ff9b::a00:1"
        );
    }
}
