//! Network of a client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// Prefix length of the network of one household or machine (RFC 6177).
const IPV6_NETWORK_BITS: u8 = 64;

/// Returns the network that counts as one client: a single IPv4 address, or the /64 network of an
/// IPv6 address. An IPv6 address from a NAT64 gateway counts as the IPv4 address inside it.
pub(super) fn network_of(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::from(address),
        IpAddr::V6(address) => translated(address).map_or_else(
            || {
                Ipv6Net::new(address, IPV6_NETWORK_BITS)
                    .map_or(IpNet::from(IpAddr::V6(address)), |net| net.trunc().into())
            },
            |inside| IpNet::from(IpAddr::V4(inside)),
        ),
    }
}

/// Returns the IPv4 address inside an address with the well-known prefix of NAT64, 64:ff9b::/96
/// (RFC 6052).
///
/// The result decides only which addresses count as one client, and never whether an address is
/// trusted.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else {
        return None;
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}
